"use client";

import { useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useState, useSyncExternalStore } from "react";
import { Button } from "@/components/ui/button";
import { Dialog } from "@/components/ui/dialog";
import { apiKey, dismissKey, keyIsWanted, onKeyChange, setApiKey } from "@/lib/key";
import styles from "./key-dialog.module.css";

/** Asks for the API key where the server wants one. */
export function KeyDialog(): ReactNode {
  const wanted = useSyncExternalStore(onKeyChange, keyIsWanted, () => false);
  return (
    <Dialog
      open={wanted}
      onClose={dismissKey}
      title="This server asks for an API key"
      description="Whoever runs it makes one with `caesarion keys add NAME`. It is kept in this browser and sent to this server alone."
    >
      <KeyForm />
    </Dialog>
  );
}

function KeyForm(): ReactNode {
  const [key, setKey] = useState(apiKey);
  const queries = useQueryClient();
  return (
    <form
      className={styles.form}
      onSubmit={(event) => {
        event.preventDefault();
        setApiKey(key.trim());
        void queries.invalidateQueries();
      }}
    >
      <label className={styles.label}>
        API key
        <input
          className={styles.input}
          type="password"
          autoComplete="off"
          spellCheck={false}
          placeholder="cz_…"
          value={key}
          onChange={(event) => setKey(event.target.value)}
        />
      </label>
      <div className={styles.actions}>
        <Button onClick={dismissKey}>Not now</Button>
        <Button look="primary" type="submit">
          Use this key
        </Button>
      </div>
    </form>
  );
}
