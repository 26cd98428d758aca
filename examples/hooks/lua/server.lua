-- What LuaJIT offers an app that wants something random, and the hook that reseeds it.
local ffi, socket = require "ffi", require "socket"

ffi.cdef [[
int RAND_bytes(unsigned char *, int);
void RAND_add(const void *, int, double);
]]
local crypto = ffi.load "libcrypto.so.3"

local function values()
  local bytes = ffi.new("unsigned char[16]")
  crypto.RAND_bytes(bytes, 16)
  local hex = ffi.string(bytes, 16):gsub(".", function(c) return ("%02x"):format(c:byte()) end)
  return ('{"math.random": %.17g, "RAND_bytes": "%s"}'):format(math.random(), hex)
end

local function after_restore(random)
  crypto.RAND_add(random, #random, #random) -- OpenSSL asks the kernel as well
  math.randomseed(tonumber(random:sub(1, 13), 16)) -- 52 bits: LuaJIT takes a double
end

local server = assert(socket.bind("*", 8080))
math.randomseed(os.time())
while true do
  local client = server:accept()
  local method, path = (client:receive() or ""):match("^(%u+) (%S+)")
  local length = 0
  for line in function() return client:receive() end do
    if line == "" then break end
    length = tonumber(line:lower():match("^content%-length: *(%d+)")) or length
  end
  if method == "POST" then after_restore(client:receive(length):match('"random": *"(%x+)"')) end
  client:send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" .. (path == "/random" and values() or ""))
  client:close()
end
