"use client";

import { Download, ZoomIn } from "lucide-react";
import { type CSSProperties, type ReactNode, useMemo, useState } from "react";
import { IconButton } from "@/components/ui/button";
import { Dialog } from "@/components/ui/dialog";
import { fetchBlob } from "./fetch-blob";
import { endingOf, type Form } from "./forms";
import { useNear } from "./near";
import { useObjectUrl } from "./object-url";
import { type Size, sizeFromBase64, sizeFromMetadata, sizeFromSvg } from "./picture-size";
import { Failed, Waiting } from "./placeholder";
import { saveBlob } from "@/lib/save";
import { useBlob } from "./use-form";
import styles from "./picture.module.css";

export interface PictureProps {
  form: Form;
  metadata?: Record<string, unknown>;
}

/** A picture of a kernel. SVG too is only ever an `<img>`, where its scripts do not run and it loads nothing. */
export function Picture({ form, metadata }: PictureProps): ReactNode {
  const { mime, source } = form;
  const own = "value" in source && typeof source.value === "string" ? source.value : undefined;
  const [ref, near] = useNear();
  const fetched = useBlob(form, near);
  const fetchedUrl = useObjectUrl(fetched.state === "ready" ? fetched.value : undefined);
  const ownUrl = useMemo(() => (own === undefined ? undefined : dataUrl(mime, own)), [mime, own]);
  const told = useMemo(() => sizeFromMetadata(metadata, mime) ?? sizeOf(mime, own), [metadata, mime, own]);
  const [broken, setBroken] = useState<string>();
  const [zoomed, setZoomed] = useState(false);
  const [seen, setSeen] = useState<Size>();
  const size = told ?? seen;
  const url = ownUrl ?? fetchedUrl;
  const alt = altOf(metadata, mime);
  const save = async (): Promise<void> => {
    const blob = "path" in source ? await fetchBlob(source.path) : blobOf(mime, own ?? "");
    saveBlob(blob, `picture.${endingOf(mime)}`);
  };
  if (url !== undefined && broken === url) {
    return <Failed words="This picture cannot be shown: it is damaged or of a kind that the browser does not know." />;
  }
  const place: CSSProperties | undefined =
    size === undefined ? undefined : { aspectRatio: `${size.width} / ${size.height}`, width: widthOf(size) };
  return (
    <figure ref={ref} className={styles.figure}>
      {fetched.state === "failed" && url === undefined ? (
        <Failed words={`The picture could not be loaded. ${fetched.words}`} retry={fetched.retry} />
      ) : url === undefined ? (
        <div className={styles.place} style={place}>
          <Waiting words="Loading the picture" />
        </div>
      ) : (
        <>
          <img
            src={url}
            alt={alt}
            width={size?.width}
            height={size?.height}
            style={place}
            className={styles.picture}
            decoding="async"
            onError={() => setBroken(url)}
            onLoad={(event) => {
              const { naturalWidth: width, naturalHeight: height } = event.currentTarget;
              if (width > 0 && height > 0) setSeen({ width, height });
            }}
          />
          <figcaption className={styles.actions}>
            <IconButton label="Zoom" size="sm" onClick={() => setZoomed(true)}>
              <ZoomIn aria-hidden />
            </IconButton>
            <IconButton label="Save picture" size="sm" onClick={() => void save()}>
              <Download aria-hidden />
            </IconButton>
          </figcaption>
          <Dialog open={zoomed} onClose={() => setZoomed(false)} title="Picture" size="wide">
            <img src={url} alt={alt} className={styles.large} />
          </Dialog>
        </>
      )}
    </figure>
  );
}

function altOf(metadata: Record<string, unknown> | undefined, mime: string): string {
  const own = metadata?.[mime];
  for (const told of [own, metadata]) {
    const alt = typeof told === "object" && told !== null ? (told as { alt?: unknown }).alt : undefined;
    if (typeof alt === "string" && alt.trim() !== "") return alt.slice(0, 500);
  }
  return "Picture made by the code";
}

/** As wide as it is, no higher than a screenful; the style sheet bounds it by the column. */
function widthOf({ width, height }: Size): string {
  return `min(${width}px, calc(var(--picture-height) * ${(width / height).toFixed(4)}))`;
}

function sizeOf(mime: string, own: string | undefined): Size | undefined {
  if (own === undefined) return undefined;
  return mime === "image/svg+xml" ? sizeFromSvg(own) : sizeFromBase64(own, mime);
}

function dataUrl(mime: string, own: string): string {
  return mime === "image/svg+xml"
    ? `data:${mime};charset=utf-8,${encodeURIComponent(own.replaceAll(LONE_SURROGATES, "\ufffd"))}`
    : `data:${mime};base64,${own.replaceAll(/\s/g, "")}`;
}

function blobOf(mime: string, own: string): Blob {
  if (mime === "image/svg+xml") return new Blob([own], { type: mime });
  const bytes = Uint8Array.from(atob(own.replaceAll(/\s/g, "")), (character) => character.charCodeAt(0));
  return new Blob([bytes], { type: mime });
}

const LONE_SURROGATES = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
