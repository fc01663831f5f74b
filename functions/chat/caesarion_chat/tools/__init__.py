"""The tools of the model, one file each. A new one is a file with a `Tool` and a line in `TOOLS`."""

from caesarion_chat.tools.list_files import ListFiles
from caesarion_chat.tools.python import Python
from caesarion_chat.tools.read_file import ReadFile
from caesarion_chat.tools.tool import Tool, ToolContext, ToolFailed, ToolResult
from caesarion_chat.tools.weather import GetWeather

TOOLS: tuple[Tool, ...] = (Python(), ListFiles(), ReadFile(), GetWeather())

__all__ = ["TOOLS", "Tool", "ToolContext", "ToolFailed", "ToolResult"]
