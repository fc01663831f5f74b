// In the place of @ai-sdk/gateway: the page never calls a model itself.
export const gateway = undefined;
export const createGateway = undefined;
export class GatewayAuthenticationError extends Error {}
export class GatewayError extends Error {}
