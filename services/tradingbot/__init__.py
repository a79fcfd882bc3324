"""TradingBot: automated portfolio trading for Hyperliquid perpetuals over Redis Streams."""
