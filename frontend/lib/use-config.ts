"use client";

import { useQuery, type UseQueryResult } from "@tanstack/react-query";
import { type Config, loadConfig } from "./config";

export function useConfigQuery(): UseQueryResult<Config> {
  return useQuery({ queryKey: ["config"], queryFn: loadConfig, staleTime: Number.POSITIVE_INFINITY });
}

/** The server's configuration; undefined until it is there. */
export function useConfig(): Config | undefined {
  return useConfigQuery().data;
}
