"use client";

import { Download } from "lucide-react";
import { type ReactNode, useMemo } from "react";
import { Button } from "@/components/ui/button";
import type { RichOutput as Output } from "@/lib/outputs";
import { type FrameContent, heard } from "@/render/protocol";
import { CodeBlock } from "./code-block";
import { fetchBlob } from "./fetch-blob";
import { asObject, bestForm, endingOf, type Form, isObject } from "./forms";
import { LatexOutput } from "./formula";
import { Frame } from "./frame";
import { MarkdownText } from "./markdown-text";
import { useNear } from "./near";
import { Picture } from "./picture";
import { Failed, Waiting } from "./placeholder";
import { saveBlob } from "@/lib/save";
import { ScrollRegion } from "./scroll-region";
import { parseTable } from "./table";
import { TableView } from "./table-view";
import { TextOutput } from "./text-output";
import { useText } from "./use-form";
import styles from "./rich-output.module.css";

export interface RichOutputProps {
  output: Output;
  /** Names the output on this page. */
  id: string;
}

/** What a kernel displays, in its best form. */
export function RichOutput({ output, id }: RichOutputProps): ReactNode {
  const form = useMemo(() => bestForm(output), [output]);
  if (form === undefined) return null;
  switch (form.view) {
    case "svg":
    case "picture":
      return <Picture form={form} metadata={output.metadata} />;
    case "unknown":
      return <Unknown form={form} />;
    case "plotly":
    case "vega":
    case "html":
    case "latex":
    case "markdown":
    case "json":
    case "text":
      return <WithText form={form} id={id} />;
  }
}

/** A form that is read as text before it is shown. */
function WithText({ form, id }: { form: Form; id: string }): ReactNode {
  const [ref, near] = useNear();
  const text = useText(form, near);
  if (text.state === "ready") return <FromText view={form.view} mime={form.mime} text={text.value} id={id} />;
  return (
    <div ref={ref} className={styles.place} data-view={form.view}>
      {text.state === "loading" ? (
        <Waiting words="Loading the output" />
      ) : (
        <Failed words={`The output could not be loaded. ${text.words}`} retry={text.retry} />
      )}
    </div>
  );
}

function FromText({ view, mime, text, id }: { view: Form["view"]; mime: string; text: string; id: string }): ReactNode {
  switch (view) {
    case "html":
      return <Html html={text} id={id} />;
    case "plotly":
    case "vega":
      return <Figure view={view} mime={mime} json={text} id={id} />;
    case "latex":
      return <LatexOutput latex={text} />;
    case "markdown":
      return <MarkdownText text={text} />;
    case "json":
      return <Json text={text} />;
    default:
      return <TextOutput text={text} name="text" />;
  }
}

function Html({ html, id }: { html: string; id: string }): ReactNode {
  const table = useMemo(() => parseTable(html), [html]);
  const content = useMemo<FrameContent>(() => ({ view: "html", html: html.slice(0, MAX_FRAME_CHARS) }), [html]);
  if (table !== undefined) return <TableView table={table} />;
  return <Frame content={content} id={id} guessPx={160} />;
}

/** plotly brings its own library as HTML: 5 MB. */
const MAX_FRAME_CHARS = 16_000_000;

function Figure({
  view,
  mime,
  json,
  id,
}: {
  view: "plotly" | "vega";
  mime: string;
  json: string;
  id: string;
}): ReactNode {
  const content = useMemo<FrameContent | undefined>(() => {
    const figure = asObject(json);
    if (figure === undefined) return undefined;
    if (view === "plotly") return { view, figure };
    return { view, spec: figure, mode: mime.startsWith("application/vnd.vegalite.") ? "vega-lite" : "vega" };
  }, [view, mime, json]);
  if (content === undefined) return <Failed words="This figure cannot be drawn: it is not whole." />;
  return <Frame content={content} id={id} guessPx={heightOf(content)} />;
}

/** The height that a figure will most likely have. */
function heightOf(content: FrameContent): number {
  const usual = content.view === "plotly" ? 450 : 370;
  const told =
    content.view === "plotly"
      ? isObject(content.figure.layout) && content.figure.layout.height
      : content.view === "vega" && content.spec.height;
  const message = heard({ type: "height", px: told });
  return message?.type === "height" ? message.px : usual;
}

function Json({ text }: { text: string }): ReactNode {
  const pretty = useMemo(() => {
    if (text.length > MAX_JSON_CHARS) return undefined;
    try {
      return JSON.stringify(JSON.parse(text), undefined, 2);
    } catch {
      return text;
    }
  }, [text]);
  if (pretty === undefined) return <TextOutput text={text} name="text" />;
  return (
    <ScrollRegion label="JSON" className={styles.json}>
      <CodeBlock code={pretty} language="json" copyable />
    </ScrollRegion>
  );
}

const MAX_JSON_CHARS = 200_000;

/** A kind of output that this page does not know can at least be saved. */
function Unknown({ form }: { form: Form }): ReactNode {
  const { mime, source } = form;
  const save = async (): Promise<void> => {
    const blob = "path" in source ? await fetchBlob(source.path) : blobOf(mime, source.value);
    saveBlob(blob, `output.${endingOf(mime)}`);
  };
  return (
    <div className={styles.unknown}>
      <span>
        An output of the kind <code>{mime.slice(0, 100)}</code>, which this page does not show.
      </span>
      <Button look="quiet" onClick={() => void save().catch(() => undefined)}>
        <Download aria-hidden size={16} /> Save
      </Button>
    </div>
  );
}

function blobOf(mime: string, value: unknown): Blob {
  return new Blob([typeof value === "string" ? value : JSON.stringify(value, undefined, 2)], { type: mime });
}
