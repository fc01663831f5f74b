"use client";

import "@/lib/zod";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import { LiveRegion } from "@/components/ui/live-region";
import { TooltipProvider } from "@/components/ui/tooltip";
import { ApiError } from "@/lib/api";
import { useAddress } from "./address";
import { Frame } from "./frame";
import { KeyDialog } from "./key-dialog";
import { Skeleton } from "./skeleton";

/** The page around a session. */
export function Shell(): ReactNode {
  const [client] = useState(newClient);
  const address = useAddress();
  return (
    <QueryClientProvider client={client}>
      <TooltipProvider delayDuration={400} skipDelayDuration={200}>
        {address === undefined ? <Skeleton /> : <Frame address={address} />}
        <KeyDialog />
        <LiveRegion />
      </TooltipProvider>
    </QueryClientProvider>
  );
}

function newClient(): QueryClient {
  return new QueryClient({
    defaultOptions: {
      queries: {
        retry: (failures, error) => failures < 2 && !(error instanceof ApiError && error.status > 0),
        staleTime: 2_000,
      },
    },
  });
}
