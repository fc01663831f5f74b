"use client";

import { type ReactNode, useEffect, useMemo, useSyncExternalStore } from "react";
import { CopyButton } from "./copy-button";
import { isReady, knownLanguage, loadLanguage, onLanguage, tokensOf } from "./highlight";
import { ScrollRegion } from "./scroll-region";
import styles from "./code-block.module.css";

export interface CodeBlockProps {
  code: string;
  language?: string;
  /** Whether a button copies it. */
  copyable?: boolean;
}

/** Code to be read. Its colours come when they are loaded; its lines stay where they are. */
export function CodeBlock({ code, language, copyable = false }: CodeBlockProps): ReactNode {
  const known = knownLanguage(language);
  const loaded = useSyncExternalStore(
    onLanguage,
    () => known !== undefined && isReady(known),
    () => false,
  );
  useEffect(() => {
    if (known !== undefined) void loadLanguage(known);
  }, [known]);
  const lines = useMemo(
    () => (loaded && known !== undefined ? tokensOf(code, known) : undefined),
    [code, known, loaded],
  );
  return (
    <div className={styles.block}>
      <ScrollRegion label="Code" className={styles.box}>
        <pre className={styles.pre}>
          <code>
            {lines?.map((line, index) => (
              <span key={index}>
                {line.map((token, at) =>
                  token.color === undefined ? (
                    token.text
                  ) : (
                    <span key={at} style={{ color: token.color }}>
                      {token.text}
                    </span>
                  ),
                )}
                {index < lines.length - 1 && "\n"}
              </span>
            )) ?? code}
          </code>
        </pre>
      </ScrollRegion>
      {copyable && (
        <div className={styles.copy}>
          <CopyButton label="Copy code" what="Code" text={() => code} />
        </div>
      )}
    </div>
  );
}
