import type { FrameTheme } from "./protocol";

/** Plotly's and vega's figures in the page's colours, where their makers chose none. */

type Dict = Record<string, unknown>;

function dictOf(value: unknown): Dict {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Dict) : {};
}

/**
 * Return what `Plotly.newPlot` takes for a figure.
 *
 * A figure with plotly's own template stands on the page's ground and in its text colour; one with another template or
 * colours of its own is left as it is. Without a height it gets one, and it follows the width it is given.
 */
export function plotlyFigure(figure: Dict, theme: FrameTheme): Dict {
  const layout = { ...dictOf(figure.layout) };
  if (typeof layout.height !== "number") layout.height = 450;
  if (typeof layout.width !== "number") layout.autosize = true;
  const template = dictOf(layout.template);
  const base = dictOf(template.layout);
  const plain = Object.keys(base).length === 0 || (base.plot_bgcolor === "#E5ECF6" && base.paper_bgcolor === "white");
  if (plain) {
    const axis = { gridcolor: theme.border, linecolor: theme.border, zerolinecolor: theme.border };
    layout.template = {
      ...template,
      layout: {
        ...base,
        paper_bgcolor: "rgba(0,0,0,0)",
        plot_bgcolor: "rgba(0,0,0,0)",
        font: { ...dictOf(base.font), color: theme.text, family: theme.font },
        xaxis: { ...dictOf(base.xaxis), ...axis },
        yaxis: { ...dictOf(base.yaxis), ...axis },
      },
    };
  }
  return {
    data: Array.isArray(figure.data) ? figure.data : [],
    frames: Array.isArray(figure.frames) ? figure.frames : undefined,
    layout,
    config: {
      ...dictOf(figure.config),
      responsive: true,
      displaylogo: false,
      // The frame may neither save files nor open windows.
      modeBarButtonsToRemove: ["toImage"],
      showSendToCloud: false,
      showEditInChartStudio: false,
      showLink: false,
    },
  };
}

/** Return the config that vega-embed merges below the spec's own. */
export function vegaConfig(theme: FrameTheme): Dict {
  const words = { labelColor: theme.text, titleColor: theme.text, labelFont: theme.font, titleFont: theme.font };
  return {
    background: "transparent",
    title: { color: theme.text, font: theme.font },
    axis: { ...words, gridColor: theme.border, domainColor: theme.muted, tickColor: theme.muted },
    legend: words,
    header: words,
    text: { color: theme.text },
    view: { stroke: theme.border },
    style: { "guide-label": { fill: theme.text }, "guide-title": { fill: theme.text } },
  };
}
