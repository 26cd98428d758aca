<?php // What PHP offers an app that wants something random, and the hook that reseeds it. A worker that serves many requests, as with RoadRunner, Swoole or FrankenPHP.
function values(): array {
    return [
        'mt_rand' => mt_rand(),
        'lcg_value' => @lcg_value(),
        'random_bytes' => bin2hex(random_bytes(16)),
        'Random\Randomizer' => bin2hex((new Random\Randomizer)->getBytes(16)),
        'openssl_random_pseudo_bytes' => bin2hex(openssl_random_pseudo_bytes(16)),
    ];
}

function after_restore(string $random): void {
    // PHP has no function for it. OpenSSL asks the kernel as well.
    FFI::cdef('void RAND_add(const char *, int, double);', 'libcrypto.so.3')->RAND_add($random, strlen($random), strlen($random));
    mt_srand(random_int(0, PHP_INT_MAX)); // also for rand, shuffle, array_rand, str_shuffle
}

$server = stream_socket_server('tcp://0.0.0.0:8080');
while (true) {
    if (!$client = @stream_socket_accept($server, -1)) continue;
    [$method, $path] = explode(' ', fgets($client) . '  ');
    for ($length = 0; ($line = trim(fgets($client))) !== '';) {
        if (stripos($line, 'content-length:') === 0) $length = (int) substr($line, 15);
    }
    if ($method === 'POST') after_restore(hex2bin(json_decode(stream_get_contents($client, $length))->random));
    $body = $path === '/random' ? json_encode(values()) : '';
    fwrite($client, "HTTP/1.1 200 OK\r\nContent-Length: " . strlen($body) . "\r\nConnection: close\r\n\r\n$body");
    fclose($client);
}
