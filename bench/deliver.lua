-- wrk sends Alertmanager payloads: SIZE alerts each, over ACCOUNTS accounts; KIND "new" gives every alert a start of
-- its own, "repeated" sends the same ones again and again. Prints one line of JSON at the end.
local size = tonumber(os.getenv("BENCH_ALERTS"))
local accounts = tonumber(os.getenv("BENCH_ACCOUNTS"))
local fresh = os.getenv("BENCH_KIND") == "new"
local severity = os.getenv("BENCH_SEVERITY")
local headers = {["Content-Type"] = "application/json", ["Authorization"] = os.getenv("BENCH_AUTHORIZATION")}
local run = os.getenv("BENCH_RUN")
local threads = 0
local counter = 0

function setup(thread)
   thread:set("number", threads)
   threads = threads + 1
end

local one = [[{"status":"firing","labels":{"alertname":"CardTestingDetected","alert_type":"CARD_TESTING","severity":"%s",]] ..
   [["account_id":"%s","instance":"%s","merchant_name":"Merchant %d","job":"sentinel"},"annotations":{"summary":"Block rate is high",]] ..
   [["block_rate":"0.35038363171355497","failed_auth_rate":"0.41","threshold_block_rate":"0.2"},"startsAt":"%s",]] ..
   [["endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://127.0.0.1:9090/graph","fingerprint":"%016x"}]]

function request()
   local alerts = {}
   for i = 1, size do
      local serial = (counter * size + i) * 8 + number
      local account = fresh and serial or serial % accounts
      local name = (fresh and ("acc_" .. run .. "_") or "acc_") .. account
      alerts[i] = string.format(one, severity, name, name, account, "2026-01-05T12:00:00Z", account)
   end
   counter = counter + 1
   local body = '{"version":"4","groupKey":"g","receiver":"sentinel","status":"firing","groupLabels":{},"commonLabels":{},' ..
      '"commonAnnotations":{},"externalURL":"","alerts":[' .. table.concat(alerts, ",") .. "]}"
   return wrk.format("POST", nil, headers, body)
end

function done(summary, latency)
   local failed = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
   io.write(string.format(
      '{"requests":%d,"refused":%d,"failed":%d,"seconds":%.6f,"p50_ms":%.3f,"p99_ms":%.3f}\n',
      summary.requests, summary.errors.status, failed, summary.duration / 1e6,
      latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
