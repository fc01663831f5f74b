import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useEffectEvent, useRef } from "react";
import { filesKey } from "@/features/files/file-list";
import { useSandbox } from "@/features/sessions/sandbox";
import { useSessions } from "@/features/sessions/store";

/** Have the sandbox's state and the file list asked for when a turn begins and ends. */
export function useFreshness(session: string, answering: boolean, messages: number): void {
  const client = useQueryClient();
  const { refresh } = useSandbox(session);
  const { touch } = useSessions();
  const was = useRef(false);
  const changed = useEffectEvent(() => {
    if (messages === 0) return;
    refresh();
    if (answering) touch(session);
    else void client.invalidateQueries({ queryKey: filesKey(session) });
  });
  useEffect(() => {
    if (was.current === answering) return;
    was.current = answering;
    changed();
  }, [answering]);
}
