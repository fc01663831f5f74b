import { useEffect, useRef, useState } from "react";
import { announce } from "@/lib/announce";
import { wordsOf } from "@/lib/api";
import { toClipboard } from "@/lib/clipboard";

/** Return a function that copies text and says so, and whether it was just done. */
export function useCopy(what: string): [(text: string) => void, boolean] {
  const [copied, setCopied] = useState(false);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  const copy = (text: string): void => {
    toClipboard(text).then(
      () => {
        setCopied(true);
        announce(`${what} copied`);
        clearTimeout(timer.current);
        timer.current = setTimeout(() => setCopied(false), 2_000);
      },
      (error: unknown) => announce(wordsOf(error)),
    );
  };
  return [copy, copied];
}
