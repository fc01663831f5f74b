import { useChat } from "@ai-sdk/react";
import type { UIMessage } from "ai";
import { useEffect, useMemo } from "react";
import { useStore } from "zustand";
import type { Conversation, ConversationState } from "./conversation";
import { conversationOf } from "./conversations";
import { withHeld } from "./message-data";

/** How often the page is drawn while text streams in. */
const DRAWN_EVERY_MS = 50;

export interface ShownConversation extends ConversationState {
  conversation: Conversation;
  messages: UIMessage[];
  busy: boolean;
}

/** A session's conversation as it is to be shown now. */
export function useConversation(session: string): ShownConversation {
  const conversation = useMemo(() => conversationOf(session), [session]);
  useEffect(() => conversation.show(), [conversation]);
  const state = useStore(conversation.state);
  const { messages } = useChat({ chat: conversation.chat, experimental_throttle: DRAWN_EVERY_MS });
  return { ...state, conversation, messages: withHeld(messages, state.held), busy: state.phase !== "idle" };
}
