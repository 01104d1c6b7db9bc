-- What every load ends with: one line of JSON about the run. Loaded alone, it is the load of one
-- GET again and again.

local threads = {}
statuses = {}

function setup(thread)
    table.insert(threads, thread)
end

function done(summary, latency, requests)
    local counted = {}
    for _, thread in ipairs(threads) do
        for status, count in pairs(thread:get("statuses")) do
            counted[status] = (counted[status] or 0) + count
        end
    end
    local by_status = {}
    for status, count in pairs(counted) do
        table.insert(by_status, string.format('"%s":%d', status, count))
    end
    local errors = summary.errors
    print(string.format(
        'RESULT {"requests":%d,"microseconds":%d,"refused":%d,"broken":%d,"timeouts":%d,'
            .. '"p50_us":%d,"p99_us":%d,"statuses":{%s}}',
        summary.requests, summary.duration, errors.status,
        errors.connect + errors.read + errors.write, errors.timeout,
        latency:percentile(50), latency:percentile(99), table.concat(by_status, ",")))
end
