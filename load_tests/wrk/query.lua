-- POST /v1/availability/query: 50 skus, drawn anew for each request.
-- Arguments: how many items to draw from, one in so many of those there are, a seed.
dofile("report.lua")

local skus, drawn = {}, {}

function init(args)
    local items, stride = tonumber(args[1]), tonumber(args[2])
    math.randomseed(tonumber(args[3]))
    for n = 0, items - 1 do
        skus[n] = string.format('"SKU-%06d"', n * stride + 1 + n % stride)
    end
    wrk.method = "POST"
    wrk.headers["Content-Type"] = "application/json"
end

function request()
    local first = math.random(0, #skus)
    -- 50 different ones: a step that is odd and small never comes back within 50.
    local step = math.random(1, math.floor(#skus / 50))
    for n = 1, 50 do
        drawn[n] = skus[(first + n * step) % (#skus + 1)]
    end
    return wrk.format(nil, nil, nil, '{"skus":[' .. table.concat(drawn, ",", 1, 50) .. "]}")
end
