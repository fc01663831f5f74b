/** The functions as a program asks them, beside the page. */
export class Functions {
  constructor(
    private readonly executeUrl: string,
    private readonly key: string,
  ) {}

  /** Put a file into a session, which also lets code go on that waits for one. */
  async putFile(session: string, name: string, content = "go"): Promise<void> {
    await this.ask(`/sessions/${session}/files/${name}`, { method: "PUT", body: content });
  }

  async readFile(session: string, name: string): Promise<string> {
    return (await this.ask(`/sessions/${session}/files/${name}`)).text();
  }

  /** Run code in a session to its end and return what it printed. */
  async run(session: string, code: string): Promise<string> {
    const reply = await this.ask(`/sessions/${session}/executions`, {
      method: "POST",
      headers: { accept: "application/json", "content-type": "application/json" },
      body: JSON.stringify({ code }),
    });
    const { outputs } = (await reply.json()) as { outputs: { type: string; text?: string }[] };
    return outputs.map((output) => output.text ?? "").join("");
  }

  /** End a session, as a sweep of sandboxes does with one that is no longer kept. */
  async close(session: string): Promise<void> {
    await this.ask(`/sessions/${session}`, { method: "DELETE" });
  }

  async restart(session: string): Promise<void> {
    await this.ask(`/sessions/${session}/contexts/default/restart`, { method: "POST" });
  }

  private async ask(path: string, init: RequestInit = {}): Promise<Response> {
    const authorization: Record<string, string> = this.key ? { authorization: `Bearer ${this.key}` } : {};
    const headers = { ...authorization, ...(init.headers as Record<string, string>) };
    const reply = await fetch(this.executeUrl + path, { ...init, headers });
    if (!reply.ok) throw new Error(`${init.method ?? "GET"} ${path} gave ${reply.status}: ${await reply.text()}`);
    return reply;
  }
}
