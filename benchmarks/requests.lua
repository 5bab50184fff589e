-- The requests that wrk sends: those of a file, over and over, each thread from its own position; it prints a summary at
-- the end. Arguments after `--`: the file, with one path to GET a line; or, before an access token, with one JSON body a
-- line for POST /v1/bookings/init.

local threads = 0
local requests = {}
local position = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init(arguments)
  local file, token = arguments[1], arguments[2]
  local headers = token and {
    ["Authorization"] = "Bearer " .. token,
    ["Content-Type"] = "application/json",
  }
  for line in io.lines(file) do
    requests[#requests + 1] = token and wrk.format("POST", "/v1/bookings/init", headers, line) or wrk.format("GET", line)
  end
  position = math.floor(#requests * number / 2)
end

function request()
  position = position % #requests + 1
  return requests[position]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"p50_ms":%.3f,"p99_ms":%.3f,"refused":%d,"broken":%d}\n',
    summary.requests, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
