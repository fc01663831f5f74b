"""`get_weather`: what Open-Meteo says of a place, now and for the next days. No key is needed there."""

import asyncio
import importlib
import sys
from typing import Any, ClassVar

from caesarion_chat.tools.tool import ToolContext, ToolFailed, ToolResult, required_text

TIMEOUT_S = 10.0
DAYS = 3
UNREADABLE = "The weather service gave an answer that cannot be read."
CURRENT = "temperature_2m,apparent_temperature,relative_humidity_2m,precipitation,weather_code,wind_speed_10m"
DAILY = "weather_code,temperature_2m_max,temperature_2m_min,precipitation_sum"
# Source: WMO code table 4677, as Open-Meteo groups it.
_SKY = {
    0: "clear", 1: "mostly clear", 2: "partly cloudy", 3: "overcast", 45: "fog", 48: "freezing fog",
    51: "light drizzle", 53: "drizzle", 55: "heavy drizzle", 56: "freezing drizzle", 57: "heavy freezing drizzle",
    61: "light rain", 63: "rain", 65: "heavy rain", 66: "freezing rain", 67: "heavy freezing rain",
    71: "light snow", 73: "snow", 75: "heavy snow", 77: "snow grains", 80: "light showers", 81: "showers",
    82: "violent showers", 85: "snow showers", 86: "heavy snow showers", 95: "thunderstorm",
    96: "thunderstorm with hail", 99: "thunderstorm with heavy hail",
}  # fmt: skip


class GetWeather:
    """The weather at a place that is named in words."""

    name: ClassVar[str] = "get_weather"
    description: ClassVar[str] = "The weather at a place now and for the next days, in metric units."
    parameters: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"place": {"type": "string", "description": "A town, with its country if that is not clear."}},
        "required": ["place"],
        "additionalProperties": False,
    }
    ends_when_stopped: ClassVar[bool] = False

    async def run(self, arguments: dict[str, Any], context: ToolContext) -> ToolResult:
        """Find the place, then ask for its weather."""
        name = required_text(arguments, "place")
        settings = context.settings
        found = await _asked(f"{settings.geocoding_url}/v1/search", {"name": name.split(",")[0].strip(), "count": "1"})
        places = found.get("results") or []
        if not places:
            raise ToolFailed(f"No place called {name!r} is known. Try another spelling, or a larger town near it.")
        try:
            place = {key: places[0].get(key) for key in ("name", "country", "latitude", "longitude")}
            told = await _asked(
                f"{settings.weather_url}/v1/forecast",
                {
                    "latitude": str(place["latitude"]),
                    "longitude": str(place["longitude"]),
                    "current": CURRENT,
                    "daily": DAILY,
                    "forecast_days": str(DAYS),
                    "timezone": "auto",
                },
            )
            output = {"place": place, "current": _now(told), "days": _days(told)}
        except (KeyError, TypeError, AttributeError, IndexError) as exc:
            raise ToolFailed(UNREADABLE) from exc
        return ToolResult(output, _text(output))


async def _asked(url: str, params: dict[str, str]) -> dict[str, Any]:
    if "aiohttp" not in sys.modules:
        await asyncio.to_thread(importlib.import_module, "aiohttp")
    import aiohttp

    try:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True) as http,
            http.get(url, params=params, allow_redirects=False) as reply,
        ):
            if reply.status != 200:
                raise ToolFailed(f"The weather service answered with status {reply.status}. Try again later.")
            document = await reply.json(content_type=None)
    except (aiohttp.ClientError, OSError, TimeoutError) as exc:
        raise ToolFailed("The weather service cannot be reached.") from exc
    except (ValueError, RecursionError) as exc:
        raise ToolFailed(UNREADABLE) from exc
    if not isinstance(document, dict):
        raise ToolFailed(UNREADABLE)
    return document


def _now(told: dict[str, Any]) -> dict[str, Any]:
    now = told["current"]
    return {
        "time": now["time"],
        "sky": _SKY.get(now["weather_code"], "unknown"),
        "temperature_c": now["temperature_2m"],
        "feels_like_c": now["apparent_temperature"],
        "humidity_percent": now["relative_humidity_2m"],
        "precipitation_mm": now["precipitation"],
        "wind_km_h": now["wind_speed_10m"],
    }


def _days(told: dict[str, Any]) -> list[dict[str, Any]]:
    days = told["daily"]
    return [
        {
            "date": date,
            "sky": _SKY.get(days["weather_code"][i], "unknown"),
            "low_c": days["temperature_2m_min"][i],
            "high_c": days["temperature_2m_max"][i],
            "precipitation_mm": days["precipitation_sum"][i],
        }
        for i, date in enumerate(days["time"])
    ]


def _text(output: dict[str, Any]) -> str:
    place, now = output["place"], output["current"]
    lines = [
        f"{place['name']}, {place['country']}, {now['time']}: {now['sky']}, {now['temperature_c']} °C "
        f"(feels like {now['feels_like_c']} °C), humidity {now['humidity_percent']} %, wind {now['wind_km_h']} km/h, "
        f"precipitation {now['precipitation_mm']} mm"
    ]
    lines += [
        f"{day['date']}: {day['sky']}, {day['low_c']} to {day['high_c']} °C, {day['precipitation_mm']} mm"
        for day in output["days"]
    ]
    return "\n".join(lines)
