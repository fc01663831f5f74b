/** How large a picture is, before the browser has read it, so that its place can be kept. */

export interface Size {
  width: number;
  height: number;
}

/** Return the size that Jupyter's metadata tells (`{"image/png": {"width", "height"}}`), in CSS pixels. */
export function sizeFromMetadata(metadata: Record<string, unknown> | undefined, mime: string): Size | undefined {
  const own = metadata?.[mime];
  const told = typeof own === "object" && own !== null ? own : metadata;
  if (told === undefined) return undefined;
  const { width, height } = told as { width?: unknown; height?: unknown };
  return sane(Number(width), Number(height));
}

/** Return the size that the first bytes of a PNG, GIF or JPEG tell; `base64` is the picture. */
export function sizeFromBase64(base64: string, mime: string): Size | undefined {
  const bytes = firstBytes(base64, mime === "image/jpeg" ? 65_536 : 32);
  if (bytes === undefined) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (mime === "image/png" && bytes.length >= 24) return sane(view.getUint32(16), view.getUint32(20));
  if (mime === "image/gif" && bytes.length >= 10) return sane(view.getUint16(6, true), view.getUint16(8, true));
  return mime === "image/jpeg" ? sizeOfJpeg(view) : undefined;
}

/** Return the size that the root of an SVG tells. */
export function sizeFromSvg(svg: string): Size | undefined {
  const root = /<svg\b[^>]{0,4000}>/i.exec(svg.slice(0, 20_000))?.[0];
  if (root === undefined) return undefined;
  const length = (name: string): number => {
    const [, number, unit] = new RegExp(`\\s${name}=["']([\\d.]+)(px|pt)?["']`).exec(root) ?? [];
    return Number(number) * (unit === "pt" ? 4 / 3 : 1);
  };
  const [, width, height] = /\sviewBox=["'][-\d.]+[\s,]+[-\d.]+[\s,]+([\d.]+)[\s,]+([\d.]+)["']/.exec(root) ?? [];
  return sane(length("width"), length("height")) ?? sane(Number(width), Number(height));
}

function sane(width: number, height: number): Size | undefined {
  const fits = (n: number): boolean => Number.isFinite(n) && n >= 1 && n <= 100_000;
  return fits(width) && fits(height) ? { width: Math.round(width), height: Math.round(height) } : undefined;
}

function firstBytes(base64: string, count: number): Uint8Array | undefined {
  try {
    const start = base64.slice(0, count * 2).replaceAll(/\s/g, "");
    const text = atob(start.slice(0, start.length - (start.length % 4)));
    return Uint8Array.from(text, (character) => character.charCodeAt(0));
  } catch {
    return undefined;
  }
}

function sizeOfJpeg(view: DataView): Size | undefined {
  let at = 2;
  while (at + 9 < view.byteLength && view.getUint8(at) === 0xff) {
    const marker = view.getUint8(at + 1);
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (isFrame) return sane(view.getUint16(at + 7), view.getUint16(at + 5));
    at += 2 + view.getUint16(at + 2);
  }
  return undefined;
}
