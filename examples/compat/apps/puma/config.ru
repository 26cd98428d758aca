# The smallest Rack application, with something for YJIT to compile. Its hook reseeds Ruby's generator. With several workers, each has one of
# its own, seeded when it starts: then the hook is new-workers.sh.
def fibonacci(n) = n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2)

run lambda { |env|
  srand if env["PATH_INFO"] == "/after-restore" # from the kernel
  [200, { "content-type" => "text/plain" }, ["#{fibonacci(15)} #{rand}\n"]]
}
