package peers;

import static peers.Calls.bytes;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.KeyValue;
import io.etcd.jetcd.Watch;
import io.etcd.jetcd.kv.GetResponse;
import io.etcd.jetcd.lease.LeaseKeepAliveResponse;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.WatchOption;
import io.grpc.stub.StreamObserver;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;

/** The works that read or write for a while. */
final class Streams {
  private Streams() {}

  /** jetcd has no stream of a range: one request for each page, all at the revision of the first. */
  static String pages(String endpoint, Peer.Params params) throws Exception {
    KV kv = Calls.client(endpoint).getKVClient();
    int keys = params.number("keys");
    ByteSequence prefix = bytes("peers/r" + keys + "/");
    // The range of the prefix ends where its last byte is one higher.
    ByteSequence end = bytes("peers/r" + keys + "0");
    // The first pass warms the virtual machine up.
    pages(kv, prefix, end, keys);
    return pages(kv, prefix, end, keys);
  }

  private static String pages(KV kv, ByteSequence prefix, ByteSequence end, int keys) throws Exception {
    Meter meter = new Meter();
    ByteSequence next = prefix;
    long revision = 0;
    int count = 0;
    while (true) {
      GetOption option = GetOption.builder().withRange(end).withLimit(1000).withRevision(revision).build();
      GetResponse page = kv.get(next, option).get();
      if (revision == 0) {
        revision = page.getHeader().getRevision();
      }
      List<KeyValue> kvs = page.getKvs();
      count += kvs.size();
      if (!page.isMore() || kvs.isEmpty()) {
        break;
      }
      next = kvs.get(kvs.size() - 1).getKey().concat(ByteSequence.from(new byte[1]));
    }
    String report = meter.report(count);
    Calls.check(count == keys, count + " of " + keys + " keys");
    return report;
  }

  static String watch(String endpoint, Peer.Params params) throws Exception {
    Watch watch = Calls.client(endpoint).getWatchClient();
    int watchers = params.number("watchers");
    long events = params.number("events");
    CountDownLatch created = new CountDownLatch(watchers);
    CountDownLatch began = new CountDownLatch(1);
    CountDownLatch ended = new CountDownLatch(1);
    AtomicLong count = new AtomicLong();
    for (int n = 0; n < watchers; n++) {
      boolean isOne = watchers == 1;
      ByteSequence key = bytes(isOne ? "peers/l/" : String.format("peers/l/%04d", n));
      WatchOption option = WatchOption.builder().isPrefix(isOne).withCreateNotify(true).build();
      watch.watch(
          key,
          option,
          response -> {
            if (response.isCreatedNotify()) {
              created.countDown();
              return;
            }
            long all = count.addAndGet(response.getEvents().size());
            began.countDown();
            if (all >= events) {
              ended.countDown();
            }
          },
          error -> fail(error));
    }
    created.await();
    Peer.ready();
    began.await();
    Meter meter = new Meter();
    long before = count.get();
    ended.await();
    return meter.report(count.get() - before);
  }

  private static void fail(Throwable error) {
    System.err.println(error);
    Runtime.getRuntime().halt(1);
  }

  /**
   * With a higher limit for messages: etcd sends a backlog in messages of more than the 4 MiB that are the default.
   */
  static String replay(String endpoint, Peer.Params params) throws Exception {
    Client client = Client.builder().endpoints(endpoint).maxInboundMessageSize(64 << 20).build();
    // The first pass warms the virtual machine up.
    replay(client, params);
    return replay(client, params);
  }

  private static String replay(Client client, Peer.Params params) throws Exception {
    long events = params.number("events");
    CountDownLatch ended = new CountDownLatch(1);
    AtomicLong count = new AtomicLong();
    Meter meter = new Meter();
    WatchOption option = WatchOption.builder().isPrefix(true).withRevision(params.number("revision")).build();
    Watch.Watcher watcher =
        client
            .getWatchClient()
            .watch(
                bytes("peers/h/"),
                option,
                response -> {
                  if (count.addAndGet(response.getEvents().size()) >= events) {
                    ended.countDown();
                  }
                },
                error -> fail(error));
    ended.await();
    String report = meter.report(count.get());
    watcher.close();
    return report;
  }

  /** jetcd renews by itself, and tells an observer. */
  static String leases(String endpoint, Peer.Params params) throws Exception {
    Client client = Calls.client(endpoint);
    int first = params.number("first");
    int count = params.number("count");
    AtomicLong renewed = new AtomicLong();
    StreamObserver<LeaseKeepAliveResponse> observer =
        new StreamObserver<>() {
          @Override
          public void onNext(LeaseKeepAliveResponse answer) {
            renewed.incrementAndGet();
          }

          @Override
          public void onError(Throwable error) {}

          @Override
          public void onCompleted() {}
        };
    for (int id = first; id < first + count; id++) {
      client.getLeaseClient().keepAlive(id, observer);
    }
    long begun = System.nanoTime();
    while (renewed.get() < count && System.nanoTime() - begun < 120_000_000_000L) {
      Thread.sleep(10);
    }
    Meter meter = new Meter();
    long before = renewed.get();
    Thread.sleep(params.nanos("secs") / 1_000_000);
    return meter.report(renewed.get() - before);
  }
}
