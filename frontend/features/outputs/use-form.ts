import { useQuery } from "@tanstack/react-query";
import { useEffect } from "react";
import { wordsOf } from "@/lib/api";
import { onKeyChange } from "@/lib/key";
import { fetchBlob } from "./fetch-blob";
import type { Form } from "./forms";

export type Loaded<T> =
  { state: "loading" } | { state: "ready"; value: T } | { state: "failed"; words: string; retry(): void };

/** More of a text than this is not read into the page. */
const MAX_TEXT_BYTES = 32_000_000;

/** Return the blob of a form's address, loaded when `wanted`. */
export function useBlob(form: Form, wanted: boolean): Loaded<Blob> {
  return useAddress(form, "blob", (blob) => Promise.resolve(blob), wanted);
}

/** Return the form's text, from the output itself or from its address. */
export function useText(form: Form, wanted: boolean): Loaded<string> {
  const loaded = useAddress(form, "text", (blob) => blob.slice(0, MAX_TEXT_BYTES).text(), wanted);
  return "value" in form.source ? { state: "ready", value: inText(form.source.value) } : loaded;
}

function useAddress<T>(form: Form, kind: string, read: (blob: Blob) => Promise<T>, wanted: boolean): Loaded<T> {
  const path = "path" in form.source ? form.source.path : undefined;
  const { data, error, refetch } = useQuery({
    queryKey: ["form", kind, path],
    queryFn: async () => read(await fetchBlob(path ?? "")),
    enabled: path !== undefined && wanted,
    staleTime: Number.POSITIVE_INFINITY,
    gcTime: 60_000,
  });
  const failed = error !== null && data === undefined;
  // Refused for want of a key: the next one is tried at once.
  useEffect(() => (failed ? onKeyChange(() => void refetch()) : undefined), [failed, refetch]);
  if (data !== undefined) return { state: "ready", value: data };
  if (failed) return { state: "failed", words: wordsOf(error), retry: () => void refetch() };
  return { state: "loading" };
}

function inText(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value, undefined, 2);
}
