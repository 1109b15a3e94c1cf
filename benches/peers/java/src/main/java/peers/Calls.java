package peers;

import static java.nio.charset.StandardCharsets.UTF_8;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.Lease;
import io.etcd.jetcd.op.Cmp;
import io.etcd.jetcd.op.CmpTarget;
import io.etcd.jetcd.op.Op;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.PutOption;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicReference;

/** The works that are single calls. */
final class Calls {
  private Calls() {}

  static ByteSequence bytes(String text) {
    return ByteSequence.from(text, UTF_8);
  }

  private static ByteSequence value(int size) {
    return bytes("v".repeat(size));
  }

  static Client client(String endpoint) {
    return Client.builder().endpoints(endpoint).build();
  }

  static String run(String endpoint, String work, Peer.Params params) throws Exception {
    Client client = client(endpoint);
    KV kv = client.getKVClient();
    Lease leases = client.getLeaseClient();
    int size = params.number("size");
    ByteSequence value = value(size);
    return Meter.closedLoop(
        params.number("threads"),
        params,
        n -> {
          ByteSequence key =
              switch (work) {
                case "get" -> bytes("peers/v/" + size);
                case "txn" -> bytes("peers/t/" + n);
                case "range" -> bytes("peers/r" + size + "/");
                default -> bytes("peers/w/" + n);
              };
          return switch (work) {
            case "get" ->
                () -> {
                  check(kv.get(key).get().getKvs().get(0).getValue().size() == size, "another value");
                };
            case "put" -> () -> kv.put(key, value).get();
            case "txn" ->
                () -> {
                  Cmp exists = new Cmp(key, Cmp.Op.GREATER, CmpTarget.createRevision(0));
                  Op put = Op.put(key, value, PutOption.DEFAULT);
                  check(kv.txn().If(exists).Then(put).commit().get().isSucceeded(), "the comparison failed");
                };
            case "range" ->
                () -> {
                  GetOption option = GetOption.builder().isPrefix(true).build();
                  check(kv.get(key, option).get().getKvs().size() == size, "another number of keys");
                };
            default -> {
              int[] count = {0};
              yield () -> {
                long lease = leases.grant(60).get().getID();
                PutOption option = PutOption.builder().withLeaseId(lease).build();
                kv.put(bytes("peers/i/" + n + "/" + count[0]++), value, option).get();
              };
            }
          };
        });
  }

  static void check(boolean holds, String message) {
    if (!holds) {
      throw new IllegalStateException(message);
    }
  }

  /** One thread sends; the futures complete on threads of the client. */
  static String pipeline(String endpoint, Peer.Params params) throws Exception {
    KV kv = client(endpoint).getKVClient();
    inFlight(kv, params, params.nanos("warm"));
    return inFlight(kv, params, params.nanos("secs"));
  }

  private static String inFlight(KV kv, Peer.Params params, long span) throws Exception {
    int flight = params.number("flight");
    int size = params.number("size");
    boolean isGet = params.text("verb").equals("get");
    ByteSequence key = bytes(isGet ? "peers/v/" + size : "peers/w/0");
    ByteSequence value = value(size);
    Semaphore free = new Semaphore(flight);
    AtomicReference<Throwable> failed = new AtomicReference<>();
    Meter.Latencies latencies = new Meter.Latencies();
    Meter meter = new Meter();
    long begun = System.nanoTime();
    while (System.nanoTime() - begun < span && failed.get() == null) {
      free.acquire();
      long sent = System.nanoTime();
      (isGet ? kv.get(key) : kv.put(key, value))
          .whenComplete(
              (answer, error) -> {
                latencies.add(System.nanoTime() - sent);
                if (error != null) {
                  failed.set(error);
                }
                free.release();
              });
    }
    free.acquire(flight);
    if (failed.get() != null) {
      throw new IllegalStateException(failed.get());
    }
    return meter.report(latencies.array());
  }

  static String connect(String endpoint, Peer.Params params) throws Exception {
    Meter.Latencies latencies = new Meter.Latencies();
    Meter meter = new Meter();
    for (int n = 0; n < params.number("count"); n++) {
      long begun = System.nanoTime();
      Client client = client(endpoint);
      client.getKVClient().get(bytes("peers/v/256")).get();
      latencies.add(System.nanoTime() - begun);
      client.close();
    }
    return meter.report(latencies.array());
  }

  static String idle(String endpoint, Peer.Params params) throws Exception {
    List<Client> clients = new ArrayList<>();
    for (int n = 0; n < params.number("clients"); n++) {
      Client client = client(endpoint);
      client.getKVClient().get(bytes("peers/v/256")).get();
      clients.add(client);
    }
    Peer.ready();
    while (System.in.read() >= 0) {
      // Until the runner closes it.
    }
    return "{\"ops\":" + 0 * clients.size() + "}";
  }
}
