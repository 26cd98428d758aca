import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.util.concurrent.SynchronousQueue;

/** Hands a number through 500 threads at each request; each of them adds one. */
public class Threads {
    public static void main(String[] args) throws Exception {
        SynchronousQueue<Integer> first = new SynchronousQueue<>(), last = first;
        for (int i = 0; i < 500; i++) {
            SynchronousQueue<Integer> from = last, to = last = new SynchronousQueue<>();
            Thread.ofPlatform().daemon().start(() -> {
                try {
                    while (true) to.put(from.take() + 1);
                } catch (InterruptedException end) {
                }
            });
        }
        SynchronousQueue<Integer> result = last;
        HttpServer server = HttpServer.create(new InetSocketAddress(8080), 0);
        server.createContext("/", exchange -> {
            try {
                first.put(0);
                exchange.sendResponseHeaders(result.take() == 500 ? 200 : 500, -1);
            } catch (InterruptedException end) {
            }
            exchange.close();
        });
        server.start();
    }
}
