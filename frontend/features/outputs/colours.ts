/** Terminal colours that can be read on the page in both of its themes. */

type Rgb = readonly [number, number, number];

/** The sixteen as terminals have them, to find the nearest; the page's own are in `--ansi-*`. */
const SIXTEEN: readonly (readonly [string, Rgb])[] = [
  ["black", [0, 0, 0]],
  ["red", [187, 0, 0]],
  ["green", [0, 187, 0]],
  ["yellow", [187, 187, 0]],
  ["blue", [0, 0, 187]],
  ["magenta", [187, 0, 187]],
  ["cyan", [0, 187, 187]],
  ["white", [200, 200, 200]],
  ["bright-black", [85, 85, 85]],
  ["bright-red", [255, 85, 85]],
  ["bright-green", [85, 255, 85]],
  ["bright-yellow", [255, 255, 85]],
  ["bright-blue", [85, 85, 255]],
  ["bright-magenta", [255, 85, 255]],
  ["bright-cyan", [85, 255, 255]],
  ["bright-white", [255, 255, 255]],
];

/** Relative luminance of `--color-code-bg` in the light and in the dark theme. */
const LIGHT_GROUND = 0.928;
const DARK_GROUND = 0.0143;
const CONTRAST = 4.5;

/** Return a CSS colour that is this one where it can be read, else the nearest of the sixteen, in either theme. */
export function readable(rgb: Rgb): string {
  const own = `rgb(${rgb.join(" ")})`;
  const near = `var(--ansi-${nearest(rgb)})`;
  const luminance = luminanceOf(rgb);
  const onLight = (LIGHT_GROUND + 0.05) / (luminance + 0.05) >= CONTRAST ? own : near;
  const onDark = (luminance + 0.05) / (DARK_GROUND + 0.05) >= CONTRAST ? own : near;
  return onLight === onDark ? onLight : `light-dark(${onLight}, ${onDark})`;
}

export function nearest([r, g, b]: Rgb): string {
  let best = "white";
  let least = Number.POSITIVE_INFINITY;
  for (const [name, [x, y, z]] of SIXTEEN) {
    const distance = (r - x) ** 2 + (g - y) ** 2 + (b - z) ** 2;
    if (distance < least) [best, least] = [name, distance];
  }
  return best;
}

/** Relative luminance as WCAG has it. */
function luminanceOf([r, g, b]: Rgb): number {
  const linear = (channel: number): number => {
    const value = channel / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  };
  return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
}
