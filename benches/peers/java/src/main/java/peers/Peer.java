package peers;

import java.util.HashMap;
import java.util.Map;

/**
 * The peer jetcd: does one work and prints one line of JSON.
 *
 * <p>Its arguments are ENDPOINT WORK KEY=VALUE... As the documentation of jetcd recommends, there is one client, which
 * the threads share; a call that blocks is {@code get()} of the future.
 */
public final class Peer {
  private Peer() {}

  public static void main(String[] args) throws Exception {
    Map<String, String> params = new HashMap<>();
    for (int n = 2; n < args.length; n++) {
      String[] pair = args[n].split("=", 2);
      params.put(pair[0], pair[1]);
    }
    String endpoint = args[0];
    String result = run(endpoint, args[1], new Params(params));
    System.out.println(result);
    System.out.flush();
    // Threads of the client may be left.
    Runtime.getRuntime().halt(0);
  }

  private static String run(String endpoint, String work, Params params) throws Exception {
    switch (work) {
      case "get", "put", "txn", "range", "register":
        return Calls.run(endpoint, work, params);
      case "pipeline":
        return Calls.pipeline(endpoint, params);
      case "connect":
        return Calls.connect(endpoint, params);
      case "idle":
        return Calls.idle(endpoint, params);
      case "pages":
        return Streams.pages(endpoint, params);
      case "watch":
        return Streams.watch(endpoint, params);
      case "replay":
        return Streams.replay(endpoint, params);
      case "leases":
        return Streams.leases(endpoint, params);
      default:
        return Meter.NO_COUNTERPART;
    }
  }

  /** Tells the runner that watches are open or clients are idle. */
  static void ready() {
    System.out.println("ready");
    System.out.flush();
  }

  /** The parameters of a work. */
  record Params(Map<String, String> values) {
    String text(String key) {
      return values.getOrDefault(key, "");
    }

    int number(String key) {
      return Integer.parseInt(values.get(key));
    }

    long nanos(String key) {
      return (long) (Double.parseDouble(values.get(key)) * 1e9);
    }
  }
}
