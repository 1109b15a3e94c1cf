package peers;

import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Locale;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** Time and CPU time since a moment; times of operations are in microseconds, memory is in KiB. */
final class Meter {
  static final String NO_COUNTERPART = "{\"none\":\"no counterpart\"}";

  private final long begun = System.nanoTime();
  private final long used = cpu();

  private static long cpu() {
    return ((OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
  }

  private static String peak() throws IOException {
    for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
      if (line.startsWith("VmHWM:")) {
        return line.replaceAll("[^0-9]", "");
      }
    }
    return "null";
  }

  private String figures(long ops) throws IOException {
    double secs = (System.nanoTime() - begun) / 1e9;
    double cpu = (cpu() - used) / 1e3 / Math.max(ops, 1);
    return String.format(
        Locale.ROOT, "\"ops\":%d,\"secs\":%.6f,\"cpu\":%.4f,\"rss\":%s", ops, secs, cpu, peak());
  }

  String report(long ops) throws IOException {
    return "{" + figures(ops) + "}";
  }

  String report(long[] latencies) throws IOException {
    String figures = figures(latencies.length);
    if (latencies.length == 0) {
      return "{" + figures + "}";
    }
    Arrays.sort(latencies);
    double p50 = latencies[latencies.length / 2] / 1e3;
    double p99 = latencies[(int) (latencies.length * 0.99)] / 1e3;
    return String.format(Locale.ROOT, "{%s,\"p50\":%.2f,\"p99\":%.2f}", figures, p50, p99);
  }

  /** Something that is measured once. */
  interface Call {
    void run() throws Exception;
  }

  /** Makes the call of a thread. */
  interface Caller {
    Call of(int thread) throws Exception;
  }

  /** Calls from some threads, each one after the other. */
  static String closedLoop(int threads, Peer.Params params, Caller caller) throws Exception {
    long warm = params.nanos("warm");
    long secs = params.nanos("secs");
    int most = params.number("most");
    CountDownLatch warmed = new CountDownLatch(threads);
    CountDownLatch started = new CountDownLatch(1);
    ExecutorService pool = Executors.newFixedThreadPool(threads);
    @SuppressWarnings({"unchecked", "rawtypes"})
    Future<Latencies>[] all = new Future[threads];
    for (int n = 0; n < threads; n++) {
      Call call = caller.of(n);
      all[n] =
          pool.submit(
              () -> {
                try {
                  long begun = System.nanoTime();
                  for (int calls = 0; System.nanoTime() - begun < warm && calls < most; calls++) {
                    call.run();
                  }
                } finally {
                  warmed.countDown();
                }
                started.await();
                Latencies own = new Latencies();
                long begun = System.nanoTime();
                while (System.nanoTime() - begun < secs && own.count < most) {
                  long sent = System.nanoTime();
                  call.run();
                  own.add(System.nanoTime() - sent);
                }
                return own;
              });
    }
    warmed.await();
    Meter meter = new Meter();
    started.countDown();
    Latencies latencies = new Latencies();
    for (Future<Latencies> own : all) {
      for (long latency : own.get().array()) {
        latencies.add(latency);
      }
    }
    return meter.report(latencies.array());
  }

  /** A list that grows without boxes. */
  static final class Latencies {
    private long[] values = new long[100_000];
    private int count;

    synchronized void add(long value) {
      if (count == values.length) {
        values = Arrays.copyOf(values, count * 2);
      }
      values[count++] = value;
    }

    synchronized long[] array() {
      return Arrays.copyOf(values, count);
    }
  }
}
