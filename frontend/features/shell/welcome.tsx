"use client";

import { ChartLine, FileSpreadsheet, Sigma, TerminalSquare } from "lucide-react";
import { type ReactNode, useState } from "react";
import { Notice } from "@/components/ui/notice";
import { Spinner } from "@/components/ui/spinner";
import { useUploads } from "@/features/files/uploads";
import { Mark } from "./mark";
import styles from "./welcome.module.css";

interface Example {
  icon: typeof ChartLine;
  title: string;
  text: string;
  /** Whether the sample CSV goes with it. */
  sample?: boolean;
}

const WITH_MODEL: Example[] = [
  {
    icon: FileSpreadsheet,
    title: "Explore sample sales",
    text: "Which region grew fastest? Show it.",
    sample: true,
  },
  { icon: ChartLine, title: "Plot something", text: "Plot a damped oscillation and its envelope." },
  { icon: Sigma, title: "Do some maths", text: "Solve x³ − 6x² + 11x − 6 = 0 and show the steps." },
];

const PYTHON: Example[] = [
  {
    icon: FileSpreadsheet,
    title: "Look at sample sales",
    text: 'import pandas as pd\nsales = pd.read_csv("sample-sales.csv")\nsales.groupby("region").revenue.describe()',
    sample: true,
  },
  {
    icon: ChartLine,
    title: "Plot something",
    text: 'import numpy as np, matplotlib.pyplot as plt\nt = np.linspace(0, 10, 500)\nplt.plot(t, np.exp(-t / 4) * np.cos(4 * t))\nplt.title("A damped oscillation")\nplt.show()',
  },
  {
    icon: TerminalSquare,
    title: "Watch output arrive",
    text: "import time\nfor step in range(1, 6):\n    print(f'step {step} of 5')\n    time.sleep(0.4)",
  },
];

export interface WelcomeProps {
  session: string;
  /** Whether a model answers; without one what is typed runs as Python. */
  hasModel: boolean;
  onExample(text: string): void;
}

/** What an empty chat shows: what this is, and something to begin with. */
export function Welcome({ session, hasModel, onExample }: WelcomeProps): ReactNode {
  const uploads = useUploads(session);
  const [fetching, setFetching] = useState(false);
  const [problem, setProblem] = useState("");

  const choose = async (example: Example): Promise<void> => {
    onExample(example.text);
    if (!example.sample) return;
    setFetching(true);
    setProblem("");
    try {
      const reply = await fetch("/sample-sales.csv");
      if (!reply.ok) throw new Error(`the server answered ${reply.status}`);
      uploads.add([new File([await reply.blob()], "sample-sales.csv", { type: "text/csv" })]);
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error));
    } finally {
      setFetching(false);
    }
  };

  return (
    <section className={styles.welcome} aria-labelledby="welcome-title">
      <Mark size={40} />
      <h2 id="welcome-title" className={styles.title}>
        {hasModel ? "What would you like to find out?" : "Type Python, see what it does"}
      </h2>
      <p className={styles.text}>
        {hasModel
          ? "Ask in your own words. Code runs in a machine of this session’s own, and its text, tables and plots appear while it runs. Drop a CSV, text, JSON or Python file to work with it."
          : "No model is set up here, so what you type runs as Python in a machine of this session’s own. Variables stay from one message to the next. Drop a CSV, text, JSON or Python file to work with it."}
      </p>
      <ul className={styles.examples}>
        {(hasModel ? WITH_MODEL : PYTHON).map((example) => (
          <li key={example.title}>
            <button type="button" className={styles.example} onClick={() => void choose(example)} disabled={fetching}>
              {fetching && example.sample ? <Spinner /> : <example.icon aria-hidden size={18} />}
              <span className={styles.name}>{example.title}</span>
              <span className={styles.hint}>{example.text.split("\n")[0]}</span>
            </button>
          </li>
        ))}
      </ul>
      {problem !== "" && <Notice kind="error">The sample could not be fetched: {problem}.</Notice>}
    </section>
  );
}
