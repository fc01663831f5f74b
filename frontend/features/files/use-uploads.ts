"use client";

import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useEffectEvent, useMemo } from "react";
import { useStore } from "zustand";
import { useSandboxRefresh } from "@/features/sessions/sandbox";
import { currentSessions } from "@/features/sessions/store";
import { filesKey } from "./file-list";
import { type Upload, uploadQueue } from "./upload-queue";

export interface Uploads {
  items: readonly Upload[];
  /** Whether some are still on their way. */
  sending: boolean;
  add(files: readonly File[]): void;
  cancel(id: string): void;
  retry(id: string): void;
  dismiss(id: string): void;
  /** Forget those that are done: called when the message that goes with them is sent. */
  clearDone(): void;
}

export function useUploads(session: string): Uploads {
  const queue = uploadQueue(session);
  const items = useStore(queue.store, (state) => state.items);
  return useMemo(
    () => ({
      items,
      sending: items.some(({ state }) => state === "waiting" || state === "sending"),
      add: (files) => void queue.add(files),
      cancel: (id) => queue.cancel(id),
      retry: (id) => queue.retry(id),
      dismiss: (id) => queue.dismiss(id),
      clearDone: () => queue.clearDone(),
    }),
    [queue, items],
  );
}

/** Keep the file list and the sandbox's state up to date with this session's uploads. */
export function useUploadEffects(session: string): void {
  const client = useQueryClient();
  const refresh = useSandboxRefresh(session);
  const onUploaded = useEffectEvent(() => {
    currentSessions().touch(session);
    refresh();
    void client.invalidateQueries({ queryKey: filesKey(session) });
  });
  useEffect(() => uploadQueue(session).listen(onUploaded), [session]);
}
