-- POST /v1/reservations: two lines of one unit, each at a location that stocks it, and a new
-- Idempotency-Key each. The ids of the answers go to a file: each must be in the database after.
-- Arguments: how many items to draw from, one in so many of those there are, how many blocks of
-- 20 locations there are, a seed, the file.
dofile("report.lua")

local items, stride, blocks, run, answers
local sent = 0
local line = '{"line_id":"%d","sku":"SKU-%06d","quantity":1,"location":"LOC-%03d"}'
local cart = '{"reference":"cart","channel":"web","ttl_seconds":3600,"lines":[%s,%s]}'

function init(args)
    items, stride, blocks = tonumber(args[1]), tonumber(args[2]), tonumber(args[3])
    run = args[4]
    math.randomseed(tonumber(run))
    answers = assert(io.open(args[5], "w"))
    answers:setvbuf("full", 1048576)
    wrk.method = "POST"
    wrk.headers["Content-Type"] = "application/json"
end

local function draw(number, drawn)
    -- One in `stride` items, but of each block of locations alike.
    local sku = drawn * stride + 1 + drawn % stride
    return string.format(line, number, sku, sku % blocks * 20 + math.random(1, 20))
end

function request()
    sent = sent + 1
    local first = math.random(0, items - 1)
    local second = (first + math.random(1, math.max(items - 1, 1))) % items
    local body = string.format(cart, draw(1, first), draw(2, second))
    wrk.headers["Idempotency-Key"] = run .. "-" .. sent
    return wrk.format(nil, nil, nil, body)
end

function response(status, headers, body)
    local name = tostring(status)
    statuses[name] = (statuses[name] or 0) + 1
    if status == 201 then
        answers:write(body:match('"reservation_id":"([^"]+)"'), "\n")
    end
end
