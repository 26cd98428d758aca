-- Has LuaJIT compile a loop, and a hook that reseeds its generator.
local socket = require "socket"

local function seed()
  local file = assert(io.open("/dev/urandom", "rb"))
  local a, b, c, d, e, f = file:read(6):byte(1, 6)
  file:close()
  math.randomseed(((((a * 256 + b) * 256 + c) * 256 + d) * 256 + e) * 256 + f)
end

local server = assert(socket.bind("*", 8080))
seed()
while true do
  local client = server:accept()
  local method = (client:receive() or ""):match("^%u+")
  local length = 0
  for line in function() return client:receive() end do
    if line == "" then break end
    length = tonumber(line:lower():match("^content%-length: *(%d+)")) or length
  end
  if method == "POST" then
    client:receive(length)
    seed()
  end
  local total = 0
  for i = 1, 100000 do total = (total * 31 + i) % 1000003 end
  client:send(("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%d %.17g\n"):format(total, math.random()))
  client:close()
end
