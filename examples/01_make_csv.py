"""Makes a CSV of sales, the same each time: `python examples/01_make_csv.py sales.csv [ROWS]`."""

import csv
import math
import random
import sys
from datetime import date, timedelta

ROWS = 100_000
REGIONS = {"North": 1.0, "South": 1.3, "East": 0.8, "West": 1.1, "Île-de-France": 1.6}
PRICES = {"notebook": 3.5, "pen": 1.2, "lamp": 39.0, "desk": 249.0, "chair": 129.0}
FIRST_DAY = date(2023, 1, 1)
DAYS = 730


def main(path: str, rows: int) -> None:
    """Write the file and say what it has."""
    chance = random.Random(2023)
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["date", "region", "product", "units", "price"])
        for _ in range(rows):
            day = chance.randrange(DAYS)
            region = chance.choice(list(REGIONS))
            product = chance.choice(list(PRICES))
            season = 1 + 0.4 * math.sin(2 * math.pi * day / 365)
            units = 1 + int(chance.expovariate(0.25) * season * REGIONS[region])
            price = round(PRICES[product] * chance.uniform(0.9, 1.1), 2)
            table.writerow([FIRST_DAY + timedelta(days=day), region, product, units, price])
    print(f"{rows:,} rows in {path}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) == 3 else ROWS)
