"use client";

import { Paperclip } from "lucide-react";
import type { ReactNode } from "react";
import { IconButton } from "@/components/ui/button";
import { SHORTCUTS, useShortcut } from "@/lib/shortcuts";
import { useFilePicker } from "./use-file-picker";
import { useUploadEffects } from "./use-uploads";

/** Uploads files that are chosen in the system's dialog. Once per view, since it holds the shortcut. */
export function UploadButton({ session }: { session: string }): ReactNode {
  const picker = useFilePicker(session);
  useUploadEffects(session);
  useShortcut("upload", picker.open);
  return (
    <>
      <IconButton label="Upload files" keys={SHORTCUTS.upload.keys} onClick={picker.open}>
        <Paperclip aria-hidden />
      </IconButton>
      {picker.input}
    </>
  );
}
