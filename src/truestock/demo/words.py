"""What the demo retailer is called and what it sells: word lists, nothing computed.

Every name is composed of plain words, so that no real brand, shop or product is meant.
"""

from typing import Any

import msgspec

Json = dict[str, Any]
Hours = dict[str, list[list[str]]]  # API.md's: a weekday that is missing is closed


class Category(msgspec.Struct, frozen=True):
    """One department: the words its item names are made of, and the ranges its figures lie in.

    `grams` are a unit's weight and `cents` its price in US cents, each (least, most).
    """

    name: str
    nouns: tuple[str, ...]
    materials: tuple[str, ...]
    variants: tuple[str, ...]
    grams: tuple[int, int]
    cents: tuple[int, int]


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))


COLOURS = _words("Navy, Charcoal, Sand, Olive, White, Black, Rust, Sky")
SHADES = _words("Oak, Walnut, White, Slate, Linen, Black, Sage, Clay")
SIZES = _words("Small, Medium, Large, Extra Large, Twin Pack, Family Size, Travel Size, Set of 4")

# The retailer's own product lines; each category uses all of them.
LINES = _words("Harbor, Summit, Prairie, Cedar, Beacon, Lakeside, Juniper, Granite")

CATEGORIES = (
    Category(
        "womens-apparel",
        _words(
            "Cardigan, Blouse, Wrap Dress, Trousers, Midi Skirt, Blazer, Tunic, Jeans,"
            "Raincoat, Turtleneck"
        ),
        _words("Cotton, Linen, Merino, Jersey, Denim, Corduroy, Viscose, Recycled"),
        COLOURS,
        (150, 1_200),
        (1_900, 14_900),
    ),
    Category(
        "mens-apparel",
        _words(
            "Crew Sweater, Oxford Shirt, Chinos, Polo, Overshirt, Work Jacket, Hoodie, Shorts,"
            "Henley, Parka"
        ),
        _words("Cotton, Linen, Wool, Flannel, Canvas, Fleece, Twill, Recycled"),
        COLOURS,
        (180, 1_400),
        (1_900, 15_900),
    ),
    Category(
        "kids-apparel",
        _words(
            "Bodysuit, Pajamas, Leggings, T-Shirt, Rain Boots, Sun Hat, Mittens, Dungarees,"
            "Snow Suit, Play Dress"
        ),
        _words("Organic, Striped, Dotted, Quilted, Knit, Soft, Printed, Plain"),
        COLOURS,
        (60, 700),
        (900, 5_900),
    ),
    Category(
        "footwear",
        _words(
            "Running Shoe, Hiking Boot, Loafer, Sandal, Sneaker, Ankle Boot, Slipper, Clog,"
            "Trail Shoe, Derby Shoe"
        ),
        _words("Leather, Suede, Mesh, Canvas, Waterproof, Wide, Cushioned, Light"),
        COLOURS,
        (350, 1_600),
        (2_900, 17_900),
    ),
    Category(
        "kitchen",
        _words(
            "Saucepan, Skillet, Chef Knife, Mixing Bowl, Kettle, Cutting Board, Baking Tray,"
            "Colander, Stock Pot, Storage Jar"
        ),
        _words("Steel, Cast Iron, Ceramic, Glass, Copper, Bamboo, Enamel, Nonstick"),
        SIZES,
        (200, 4_500),
        (900, 19_900),
    ),
    Category(
        "bedding-bath",
        _words(
            "Sheet Set, Duvet Cover, Pillow, Bath Towel, Bath Mat, Blanket, Quilt, Robe,"
            "Hand Towel, Mattress Pad"
        ),
        _words("Percale, Sateen, Linen, Waffle, Flannel, Bamboo, Down, Terry"),
        SHADES,
        (250, 3_800),
        (1_200, 22_900),
    ),
    Category(
        "furniture",
        _words(
            "Side Table, Bookcase, Desk, Dining Chair, Nightstand, Bench, Stool, Shelf,"
            "Armchair, Coat Rack"
        ),
        _words("Solid, Folding, Slatted, Rattan, Upholstered, Narrow, Round, Low"),
        SHADES,
        (4_000, 30_000),
        (4_900, 69_900),
    ),
    Category(
        "electronics",
        _words(
            "Headphones, Bluetooth Speaker, Charger, Power Bank, Keyboard, Desk Lamp, Webcam,"
            "Smart Plug, Alarm Clock, Travel Adapter"
        ),
        _words("Wireless, Compact, Fast, Quiet, Foldable, Solar, Slim, Rechargeable"),
        COLOURS,
        (60, 1_800),
        (1_500, 24_900),
    ),
    Category(
        "toys-games",
        _words(
            "Puzzle, Building Blocks, Card Game, Plush Bear, Train Set, Dollhouse, Kite,"
            "Board Game, Craft Kit, Toy Truck"
        ),
        _words("Wooden, Magnetic, Classic, Giant, Pocket, Rainbow, First, Junior"),
        SIZES,
        (90, 2_500),
        (700, 8_900),
    ),
    Category(
        "outdoor",
        _words(
            "Tent, Sleeping Bag, Backpack, Water Bottle, Camp Chair, Headlamp, Cooler, Tarp,"
            "Trekking Poles, Camp Stove"
        ),
        _words("Light, Insulated, Packable, Rugged, Three-Season, Steel, Dry, Compact"),
        COLOURS,
        (120, 5_500),
        (1_400, 34_900),
    ),
    Category(
        "garden",
        _words(
            "Planter, Pruner, Watering Can, Hose, Trowel, Bird Feeder, Garden Gloves, Lantern,"
            "Rake, Potting Bench"
        ),
        _words("Terracotta, Galvanized, Teak, Steel, Woven, Glazed, Long, Heavy-Duty"),
        SHADES,
        (150, 7_000),
        (800, 12_900),
    ),
    Category(
        "beauty-care",
        _words(
            "Hand Cream, Shampoo, Face Wash, Body Lotion, Soap Bar, Lip Balm, Bath Salts,"
            "Sunscreen, Hair Brush, Scented Candle"
        ),
        _words("Lavender, Oat, Citrus, Rosemary, Unscented, Almond, Aloe, Eucalyptus"),
        SIZES,
        (30, 650),
        (500, 4_900),
    ),
)

STREETS = _words(
    "16th Street, Main Street, Market Street, Union Avenue, Oak Street, Park Avenue,"
    "Lincoln Avenue, Riverside Drive, Station Road, Maple Avenue, Mill Street, Center Street,"
    "Church Street, 5th Avenue, Broadway, Highland Avenue, Washington Street, Lake Street,"
    "Commerce Street, Garden Street, College Avenue, Bridge Street, Grand Avenue, Hill Street"
)

# Towns that retailers really ship from, in the order in which the demo opens warehouses.
HUBS = (
    ("Reno", "NV"),
    ("Columbus", "OH"),
    ("Fort Worth", "TX"),
    ("Allentown", "PA"),
    ("Atlanta", "GA"),
    ("Memphis", "TN"),
    ("Kansas City", "MO"),
    ("Stockton", "CA"),
)

_LATE = [["08:00", "22:00"]]
_MALL = [["10:00", "21:00"]]
_STREET = [["09:00", "20:00"]]
_LOCAL = [["09:00", "19:00"]]
_DOCK = [["06:00", "22:00"]]
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

# Sundays are shorter, and the last pattern rests on them.
STORE_HOURS: tuple[Hours, ...] = (
    dict.fromkeys(WEEKDAYS[:6], _MALL) | {"sun": [["11:00", "18:00"]]},
    dict.fromkeys(WEEKDAYS[:6], _STREET) | {"sun": [["10:00", "18:00"]]},
    dict.fromkeys(WEEKDAYS[:6], _LATE) | {"sun": [["09:00", "20:00"]]},
    dict.fromkeys(WEEKDAYS[:5], _LOCAL) | {"sat": [["09:00", "18:00"]]},
)
WAREHOUSE_HOURS: Hours = dict.fromkeys(WEEKDAYS[:6], _DOCK)
ECOMMERCE_HOURS: Hours = dict.fromkeys(WEEKDAYS, _DOCK)
