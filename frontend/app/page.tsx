import type { ReactNode } from "react";
import { Shell } from "@/features/shell/shell";

export default function Page(): ReactNode {
  return <Shell />;
}
