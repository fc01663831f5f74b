"use client";

import { type ReactNode, useRef } from "react";
import { useConfig } from "@/lib/use-config";
import { uploadQueue } from "./upload-queue";

export interface FilePicker {
  /** Show the system's dialog. */
  open(): void;
  /** The element behind it, to be rendered anywhere. */
  input: ReactNode;
}

/** The system's dialog for choosing files, which are then uploaded to the session. */
export function useFilePicker(session: string): FilePicker {
  const ref = useRef<HTMLInputElement>(null);
  const limits = useConfig();
  return {
    open: () => ref.current?.click(),
    input: (
      <input
        ref={ref}
        type="file"
        multiple
        hidden
        aria-label="Files to upload"
        accept={limits?.upload_types.join(",")}
        onChange={(event) => {
          void uploadQueue(session).add(Array.from(event.target.files ?? []));
          event.target.value = "";
        }}
      />
    ),
  };
}
