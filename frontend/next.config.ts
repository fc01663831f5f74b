import type { NextConfig } from "next";

/** Static files only: any web server can serve `out/`, and no server of the page's own has to stay up. */
const config: NextConfig = {
  output: "export",
  images: { unoptimized: true },
  reactStrictMode: true,
  poweredByHeader: false,
  // `make check` checks types; a build, which `make run` waits for, need not do it again.
  typescript: { ignoreBuildErrors: true },
};

export default config;
