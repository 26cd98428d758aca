import com.sun.net.httpserver.HttpServer;
import java.lang.reflect.Field;
import java.net.InetSocketAddress;
import java.security.SecureRandom;
import java.util.*;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicLong;
import java.util.regex.*;

/**
 * What Java offers an app that wants something random, and the hook that reseeds it.
 *
 * java --add-opens java.base/java.lang=ALL-UNNAMED --add-opens java.base/java.util.concurrent=ALL-UNNAMED Server.java
 */
public class Server {
    static Random random = new Random();
    static SplittableRandom splittable = new SplittableRandom();
    static SecureRandom secure = new SecureRandom(), drbg, sha1; // the default is NativePRNG

    static Map<String, Object> values() {
        Map<String, Object> values = new LinkedHashMap<>();
        values.put("Math.random", Math.random());
        values.put("Random", random.nextLong());
        values.put("SplittableRandom", splittable.nextLong());
        values.put("ThreadLocalRandom", ThreadLocalRandom.current().nextLong());
        values.put("UUID.randomUUID", UUID.randomUUID());
        values.put("SecureRandom", secure.nextLong());
        values.put("SecureRandom DRBG", drbg.nextLong());
        values.put("SecureRandom SHA1PRNG", sha1.nextLong());
        return values;
    }

    static void afterRestore(byte[] seed) throws Exception {
        drbg.setSeed(seed); // each SecureRandom that is not the default
        sha1.setSeed(seed);
        // The others are seeded from the kernel, through the default SecureRandom.
        random.setSeed(secure.nextLong());
        splittable = new SplittableRandom(secure.nextLong());
        // Neither Math.random nor ThreadLocalRandom has a method for it.
        Field math = Class.forName("java.lang.Math$RandomNumberGeneratorHolder").getDeclaredField("randomNumberGenerator");
        math.setAccessible(true);
        ((Random) math.get(null)).setSeed(secure.nextLong());
        Field seeder = ThreadLocalRandom.class.getDeclaredField("seeder"); // of threads to come
        seeder.setAccessible(true);
        ((AtomicLong) seeder.get(null)).set(secure.nextLong());
        Field own = Thread.class.getDeclaredField("threadLocalRandomSeed");
        own.setAccessible(true);
        for (Thread thread : Thread.getAllStackTraces().keySet()) own.setLong(thread, secure.nextLong());
    }

    public static void main(String[] args) throws Exception {
        drbg = SecureRandom.getInstance("DRBG");
        sha1 = SecureRandom.getInstance("SHA1PRNG");
        HttpServer server = HttpServer.create(new InetSocketAddress(8080), 0);
        server.createContext("/", exchange -> {
            exchange.sendResponseHeaders(200, 0);
            if (exchange.getRequestURI().getPath().equals("/random")) {
                StringJoiner json = new StringJoiner(",", "{", "}");
                values().forEach((name, value) -> json.add("\"%s\":\"%s\"".formatted(name, value)));
                exchange.getResponseBody().write(json.toString().getBytes());
            }
            exchange.close();
        });
        server.createContext("/after-restore", exchange -> {
            int status = 200;
            try {
                Matcher m = Pattern.compile("\"random\": *\"(\\p{XDigit}+)\"").matcher(new String(exchange.getRequestBody().readAllBytes()));
                m.find();
                afterRestore(HexFormat.of().parseHex(m.group(1)));
            } catch (Exception e) {
                e.printStackTrace();
                status = 500;
            }
            exchange.sendResponseHeaders(status, -1);
            exchange.close();
        });
        server.start();
    }
}
