"use client";

import type { Element, Root } from "hast";
import { memo, type ReactNode, useMemo } from "react";
import Markdown, { type Components, type ExtraProps } from "react-markdown";
import remarkGfm from "remark-gfm";
import remarkMath from "remark-math";
import { CodeBlock } from "./code-block";
import { Formula } from "./formula";
import { Guard } from "./guard";
import { linkable, showable } from "./links";
import { blocksOf, isTooMuch, preparedMath, withinBounds, withoutOpenFormula } from "./markdown-blocks";
import { ScrollRegion } from "./scroll-region";
import styles from "./markdown-text.module.css";

export interface MarkdownTextProps {
  text: string;
  /** Whether more is coming: what is not closed yet (a fence, a formula) must not flicker. */
  streaming?: boolean;
}

/** Markdown of a model or a kernel: no HTML, nothing from other servers, links only where they can be trusted. */
export function MarkdownText({ text, streaming = false }: MarkdownTextProps): ReactNode {
  const [blocks, rest] = useMemo(() => withinBounds(blocksOf(text)), [text]);
  return (
    <div className={styles.markdown}>
      {blocks.map((block, index) => (
        <Block key={index} text={block} open={streaming && rest === "" && index === blocks.length - 1} />
      ))}
      {rest !== "" && <AsWritten text={rest} />}
    </div>
  );
}

const Block = memo(function Block({ text, open }: { text: string; open: boolean }): ReactNode {
  if (isTooMuch(text)) return <AsWritten text={text} />;
  return (
    <Guard fallback={<AsWritten text={text} />}>
      <Rendered text={text} open={open} />
    </Guard>
  );
});

function AsWritten({ text }: { text: string }): ReactNode {
  return (
    <ScrollRegion label="Text" className={styles.written}>
      <pre>{text}</pre>
    </ScrollRegion>
  );
}

function Rendered({ text, open }: { text: string; open: boolean }): ReactNode {
  const { text: prepared, math } = useMemo(() => preparedMath(text), [text]);
  const [closed, rest] = open ? withoutOpenFormula(prepared) : [prepared, ""];
  return (
    <>
      <Parsed text={closed} math={math} />
      {rest !== "" && <pre className={styles.unfinished}>{rest}</pre>}
    </>
  );
}

const Parsed = memo(function Parsed({ text, math }: { text: string; math: boolean }): ReactNode {
  return (
    <Markdown
      remarkPlugins={math ? [remarkGfm, remarkMath] : [remarkGfm]}
      rehypePlugins={[withoutIds]}
      components={COMPONENTS}
      urlTransform={(url) => showable(url) ?? linkable(url) ?? ""}
    >
      {text}
    </Markdown>
  );
});

/** Ids (of footnotes) would be the same in every message of the page. */
function withoutIds() {
  return (tree: Root): void => {
    const queue: (Root | Element)[] = [tree];
    for (let node = queue.pop(); node !== undefined; node = queue.pop()) {
      if (node.type === "element") {
        delete node.properties.id;
        delete node.properties.ariaDescribedBy;
      }
      for (const child of node.children) if (child.type === "element") queue.push(child);
    }
  };
}

interface Code {
  code: string;
  language?: string;
  /** A formula, as remark-math marks it. */
  math?: "inline" | "display";
}

/** Return what a `code` element says. */
function codeOf(node: Element | undefined): Code | undefined {
  if (node?.tagName !== "code") return undefined;
  const code = node.children.map((child) => (child.type === "text" ? child.value : "")).join("");
  const names = Array.isArray(node.properties.className) ? node.properties.className.map(String) : [];
  if (names.includes("math-inline")) return { code, math: "inline" };
  if (names.includes("math-display")) return { code, math: "display" };
  const language = names.find((name) => name.startsWith("language-"))?.slice("language-".length);
  return { code: code.replace(/\n$/, ""), language };
}

function Inline({ node, children }: { children?: ReactNode } & ExtraProps): ReactNode {
  const found = codeOf(node);
  return found?.math === "inline" ? <Formula tex={found.code} /> : <code>{children}</code>;
}

function Fenced({ node, children }: { children?: ReactNode } & ExtraProps): ReactNode {
  const [inner] = node?.children ?? [];
  const found = inner?.type === "element" ? codeOf(inner) : undefined;
  if (found === undefined) return <pre>{children}</pre>;
  if (found.math === "display") return <Formula tex={found.code} display />;
  return <CodeBlock code={found.code} language={found.language} copyable />;
}

const COMPONENTS: Components = {
  h1: ({ children }) => <h3>{children}</h3>,
  h2: ({ children }) => <h4>{children}</h4>,
  h3: ({ children }) => <h5>{children}</h5>,
  h4: ({ children }) => <h6>{children}</h6>,
  h5: ({ children }) => <h6>{children}</h6>,
  a: ({ href, children }) => <Link href={href}>{children}</Link>,
  img: ({ src, alt }) => <Image src={typeof src === "string" ? src : undefined} alt={alt} />,
  pre: Fenced,
  code: Inline,
  table: ({ children }) => (
    <ScrollRegion label="Table" className={styles.table}>
      <table>{children}</table>
    </ScrollRegion>
  ),
  th: ({ children, style }) => (
    <th scope="col" style={style}>
      {children}
    </th>
  ),
  input: ({ checked }) => <input type="checkbox" checked={checked} readOnly disabled aria-label="Done" />,
};

function Link({ href, children }: { href: string | undefined; children: ReactNode }): ReactNode {
  const url = linkable(href);
  if (url === undefined) return <span>{children}</span>;
  return (
    <a href={url} target="_blank" rel="noopener noreferrer">
      {children}
    </a>
  );
}

/** A picture that came along; one elsewhere is not asked for, since asking would tell that server who reads this. */
function Image({ src, alt = "" }: { src: string | undefined; alt: string | undefined }): ReactNode {
  const own = showable(src);
  if (own !== undefined) return <img src={own} alt={alt || "Picture"} className={styles.picture} />;
  return <Link href={src}>{alt || src || "Picture"}</Link>;
}
