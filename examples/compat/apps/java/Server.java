import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.util.SplittableRandom;
import java.util.concurrent.Executors;

/** Makes garbage at each request, and has a hook for its generator. */
public class Server {
    static volatile SplittableRandom random = new SplittableRandom();

    static synchronized long next() {
        return random.nextLong();
    }

    public static void main(String[] args) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress(8080), 0);
        server.setExecutor(Executors.newVirtualThreadPerTaskExecutor());
        server.createContext("/", exchange -> {
            byte[][] garbage = new byte[1000][];
            for (int i = 0; i < garbage.length; i++) garbage[i] = new byte[10_000];
            byte[] body = (next() + "\n").getBytes();
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.createContext("/after-restore", exchange -> {
            random = new SplittableRandom(new java.security.SecureRandom().nextLong()); // which asks the kernel
            exchange.sendResponseHeaders(200, -1);
            exchange.close();
        });
        server.start();
    }
}
