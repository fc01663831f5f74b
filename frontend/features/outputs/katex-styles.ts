/** Loaded together with KaTeX, and its fonts with it, from the page's own server. */
import "katex/dist/katex.min.css";
