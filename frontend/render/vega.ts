/** The vega bundle of `/render.html`: draws a spec whose data came along; it asks for nothing. */
import embed from "vega-embed";

const refuse = (): Promise<never> => Promise.reject(new Error("data from other addresses is not loaded here"));

/** Pictures that came along as `data:` may be drawn. */
const loader = {
  load: refuse,
  http: refuse,
  file: refuse,
  sanitize: (uri: string) => (/^data:image\//.test(uri) ? Promise.resolve({ href: uri }) : refuse()),
};

window.drawVega = async (element, spec, mode, config) => {
  const { finalize } = await embed(element, spec as Parameters<typeof embed>[1], {
    mode: mode === "vega" ? "vega" : "vega-lite",
    config: config as Record<string, never>,
    loader,
    actions: false,
    tooltip: true,
  });
  return finalize;
};
