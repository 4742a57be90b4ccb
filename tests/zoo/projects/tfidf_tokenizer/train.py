"""TfidfVectorizer with a custom tokenizer and preprocessor of local modules"""

from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import Pipeline

from corpus import load
from scoreline_training import publish
from texts import STOP, Stemmer, clean

X, y = load()
tfidf = TfidfVectorizer(
    preprocessor=clean,
    tokenizer=Stemmer(["ing", "ed", "s"]),
    token_pattern=None,
    stop_words=STOP,
    ngram_range=(1, 2),
)
model = Pipeline(
    [("tfidf", ColumnTransformer([("subject", tfidf, "subject")])), ("nb", MultinomialNB())]
)
publish(model.fit(X, y), "tfidf-tokenizer", X, y)
