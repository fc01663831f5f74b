"use client";

import { Component, type ReactNode } from "react";

/** Shows `fallback` where showing the children fails: one bad output must not take the page with it. */
export class Guard extends Component<{ fallback: ReactNode; children: ReactNode }, { failed: boolean }> {
  override state = { failed: false };

  static getDerivedStateFromError(): { failed: boolean } {
    return { failed: true };
  }

  override render(): ReactNode {
    return this.state.failed ? this.props.fallback : this.props.children;
  }
}
