import { z } from "zod";

// Before the first schema is made: zod would else try `new Function`, which the page's policy refuses and reports.
z.config({ jitless: true });

export { z };
