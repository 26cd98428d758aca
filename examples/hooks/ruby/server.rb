# What Ruby offers an app that wants something random, and the hook that reseeds it.
require "json"
require "openssl"
require "securerandom"
require "socket"

def values = {
  "rand" => rand,
  "Random.bytes" => Random.bytes(16).unpack1("H*"),
  "SecureRandom.uuid" => SecureRandom.uuid,
  "SecureRandom.hex" => SecureRandom.hex,
  "OpenSSL::Random.random_bytes" => OpenSSL::Random.random_bytes(16).unpack1("H*"),
}

def after_restore(random)
  OpenSSL::Random.random_add(random, random.bytesize) # OpenSSL asks the kernel as well, and reseeds the generators of all threads
  srand(random.unpack1("H*").hex)
end

server = TCPServer.new(8080)
loop do
  client = server.accept
  method, path = client.gets&.split
  length = 0
  while (line = client.gets&.chomp) && !line.empty?
    length = line.split[1].to_i if line.downcase.start_with?("content-length:")
  end
  after_restore([JSON.parse(client.read(length))["random"]].pack("H*")) if method == "POST"
  body = path == "/random" ? values.to_json : ""
  client.write "HTTP/1.1 200 OK\r\nContent-Length: #{body.bytesize}\r\nConnection: close\r\n\r\n#{body}"
  client.close
end
