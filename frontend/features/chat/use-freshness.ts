import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useEffectEvent, useRef } from "react";
import { filesKey } from "@/features/files/file-list";
import { useSandboxRefresh } from "@/features/sessions/sandbox";
import { currentSessions } from "@/features/sessions/store";

/** Have the sandbox's state and the file list asked for when a turn begins and ends. */
export function useFreshness(session: string, answering: boolean, messages: number): void {
  const client = useQueryClient();
  const refresh = useSandboxRefresh(session);
  const was = useRef(false);
  const changed = useEffectEvent(() => {
    if (messages === 0) return;
    refresh();
    if (answering) currentSessions().touch(session);
    else void client.invalidateQueries({ queryKey: filesKey(session) });
  });
  useEffect(() => {
    if (was.current === answering) return;
    was.current = answering;
    changed();
  }, [answering]);
}
