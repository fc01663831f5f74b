/** What the scripted model is told to say, and where it waits until a story lets it go on. */

export type Piece = string | { gate: string };

export type Step =
  | { type: "say"; pieces: Piece[] }
  | { type: "python"; code: string; pieces: Piece[] }
  | { type: "fail"; status: number; message: string; pieces: Piece[] }
  | { type: "cut"; pieces: Piece[] };

/** Text, streamed piece by piece. */
export function say(...pieces: Piece[]): Step {
  return { type: "say", pieces };
}

/** A call of the `python` tool, after some text where there is any. */
export function python(code: string, ...pieces: Piece[]): Step {
  return { type: "python", code, pieces };
}

/** A failure of the model's endpoint, at once or after some text. */
export function fail(message: string, ...pieces: Piece[]): Step {
  return { type: "fail", status: 400, message, pieces };
}

/** The model is heard up to here until `Model.open` is called with the same name. */
export function gate(name: string): Piece {
  return { gate: name };
}

export class Model {
  constructor(private readonly controlUrl: string | undefined) {}

  /** When the user says `said`, take these steps, one per request; may be called again for more. */
  async answers(said: string, ...steps: Step[]): Promise<void> {
    await this.tell("/answers", { said, steps });
  }

  async open(name: string): Promise<void> {
    await this.tell("/gates", { name });
  }

  /** Forget all and return what went otherwise. */
  async reset(): Promise<string[]> {
    return (await this.tell("/reset", {})) as string[];
  }

  private async tell(path: string, body: unknown): Promise<unknown> {
    if (this.controlUrl === undefined) return [];
    const reply = await fetch(this.controlUrl + path, { method: "POST", body: JSON.stringify(body) });
    if (!reply.ok) throw new Error(`the scripted model answered ${reply.status} to ${path}`);
    return reply.json();
  }
}
