// In the place of zod's fifty languages of error messages, a quarter of a megabyte that nobody reads here.
export {};
