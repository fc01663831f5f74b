import type { NextConfig } from "next";

/** Static files only: any web server can serve `out/`, and no server of the page's own has to stay up. */
const config: NextConfig = {
  output: "export",
  images: { unoptimized: true },
  reactStrictMode: true,
  poweredByHeader: false,
  turbopack: {
    // What comes along with the AI SDK and zod and is never used; the bundler does not drop it by itself.
    resolveAlias: { "@ai-sdk/gateway": "./lib/slim/no-gateway.js", "../locales/index.js": "./lib/slim/no-locales.js" },
  },
  // `make check` checks types; a build, which `make run` waits for, need not do it again.
  typescript: { ignoreBuildErrors: true },
};

export default config;
