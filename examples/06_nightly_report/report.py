# What runs each night. Variables of the nights before are there, also when the session slept in between.
import pandas as pd

if "sales" not in globals():
    sales = pd.read_csv("sales.csv", parse_dates=["date"])
    nights = 0
nights += 1
by_region = (sales.units * sales.price).groupby(sales.region).sum().round().sort_values(ascending=False)
by_region.to_csv("report.csv")
print(f"night {nights}: {len(sales):,} rows, best region {by_region.index[0]}")
