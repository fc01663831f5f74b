export { SandboxBadge } from "./sandbox-badge";
export { SandboxNotice } from "./sandbox-notice";
export type { SandboxState } from "./sandbox-state";
export { type SandboxView, useSandbox, useSandboxRefresh } from "./use-sandbox";
