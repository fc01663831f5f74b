"""The settings of the chat function."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from caesarion.function_settings import FunctionSettings
from caesarion.parsing import http_url, names, one_of, real_between, text, whole_between
from caesarion.settings import NO_SECRET, Secret, Variable

Images = Literal["auto", "yes", "no"]
SEEING_MODELS = ("gpt-4.1", "gpt-4o", "gpt-5", "o3", "o4", "claude", "gemini", "pixtral", "llava", "qwen2.5-vl")


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """The model that answers: any endpoint that speaks OpenAI's chat completions."""

    api_key: Annotated[
        Secret,
        Variable(
            "OPENAI_API_KEY",
            "Key of the model's endpoint. With neither a key nor a base URL what is typed runs as Python.",
            Secret,
        ),
    ] = NO_SECRET
    base_url: Annotated[
        str, Variable("OPENAI_BASE_URL", "Address of the model's endpoint; by default OpenAI's.", http_url)
    ] = ""
    model: Annotated[str, Variable("CAESARION_MODEL", "Model that answers unless a request names another.", text)] = (
        "gpt-4.1"
    )
    more_models: Annotated[
        tuple[str, ...],
        Variable("CAESARION_MODELS", "Further models that requests may name, separated by commas.", names),
    ] = ()
    images: Annotated[
        Images,
        Variable(
            "CAESARION_MODEL_IMAGES",
            "Whether the model is given pictures that code makes; `auto` goes by its name.",
            one_of("auto", "yes", "no"),
        ),
    ] = "auto"
    timeout_s: Annotated[
        float,
        Variable(
            "CAESARION_MODEL_TIMEOUT_S",
            "Longest silence of the model before its answer is given up.",
            real_between(0.1, 3600),
            "seconds",
        ),
    ] = 60.0
    context_tokens: Annotated[
        int,
        Variable(
            "CAESARION_MODEL_CONTEXT_TOKENS",
            "Length of a conversation, roughly counted, past which its oldest turns are left out.",
            whole_between(1000, 100_000_000),
            "tokens",
        ),
    ] = 100_000

    @property
    def configured(self) -> bool:
        """Whether there is a model at all."""
        return bool(self.api_key) or bool(self.base_url)

    @property
    def names(self) -> tuple[str, ...]:
        """The models that may be asked, the usual one first."""
        return tuple(dict.fromkeys((self.model, *self.more_models)))

    def sees(self, model: str) -> bool:
        """Whether a model is given pictures."""
        return self.images == "yes" or (self.images == "auto" and any(name in model for name in SEEING_MODELS))


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """Bounds of a turn, and where tools find what they ask."""

    max_steps: Annotated[
        int, Variable("CAESARION_MAX_STEPS", "Times that one turn may call the model.", whole_between(1, 1000))
    ] = 12
    max_calls: Annotated[
        int,
        Variable(
            "CAESARION_MAX_TOOL_CALLS", "Tool calls of one step that are run; more are refused.", whole_between(1, 1000)
        ),
    ] = 16
    max_message_chars: Annotated[
        int,
        Variable("CAESARION_MAX_MESSAGE_CHARS", "Length of one message.", whole_between(1, 100_000_000), "characters"),
    ] = 200_000
    max_body_bytes: Annotated[
        int,
        Variable(
            "CAESARION_MAX_CHAT_BODY_BYTES",
            "Size of a chat request, the conversation so far included.",
            whole_between(1024, 2**30),
            "bytes",
        ),
    ] = 32 * 1024**2
    tool_text_chars: Annotated[
        int,
        Variable(
            "CAESARION_TOOL_TEXT_CHARS",
            "Length of what the model gets of one tool call; the middle of a longer text is left out.",
            whole_between(200, 10_000_000),
            "characters",
        ),
    ] = 16_000
    geocoding_url: Annotated[
        str, Variable("CAESARION_GEOCODING_URL", "Open-Meteo's geocoding, for get_weather.", http_url)
    ] = "https://geocoding-api.open-meteo.com"
    weather_url: Annotated[
        str, Variable("CAESARION_WEATHER_URL", "Open-Meteo's forecast, for get_weather.", http_url)
    ] = "https://api.open-meteo.com"
    public_url: Annotated[
        str,
        Variable(
            "CAESARION_PUBLIC_URL",
            "Address under which clients reach the functions, for links to pictures; by default that of the request.",
            http_url,
        ),
    ] = ""


@dataclass(frozen=True, slots=True)
class Settings(FunctionSettings):
    """Those of every function, the model's, and a turn's."""

    model: ModelSettings = field(default_factory=ModelSettings)
    chat: ChatSettings = field(default_factory=ChatSettings)
